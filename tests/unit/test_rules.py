"""The CEL rules: core CEL only, each of them broken by at least one manifest of the tables."""

from functools import cache
from typing import Any

import celpy
import pytest

from support.manifests import Change, cases, changes
from support.schemas import nodes, rules
from tunesmith.cel import violations
from tunesmith.problems import Problem
from tunesmith_api.generate.crd import job_schema
from tunesmith_api.rules import FUNCTIONS

RULES = rules(job_schema())
ENVIRONMENT = celpy.Environment()


def called(rule: str) -> set[str]:
    """The names of all functions, methods and macros that a rule calls."""
    tree = ENVIRONMENT.compile(rule)
    calls = [*tree.find_data("ident_arg"), *tree.find_data("member_dot_arg"), *tree.find_data("dot_ident_arg")]
    return {str(token) for call in calls for token in call.children if getattr(token, "type", "") == "IDENT"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["message"][:50])
def test_rules_call_nothing_but_core_cel(rule: dict[str, str]) -> None:
    """Kubernetes' own functions are unknown to a local CEL library."""
    assert called(rule["rule"]) <= FUNCTIONS


@pytest.mark.parametrize("rule", ["self.x.isSorted()", "self.map(x, x.a)", "quantity(self.q)", "url(self.u).getHost()"])
def test_functions_beyond_core_cel_are_found(rule: str) -> None:
    """The check above sees calls of every form."""
    assert not called(rule) <= FUNCTIONS


def test_no_rule_reads_the_name_of_a_map_entry() -> None:
    """The API server takes such a name for as long as a request and refuses the CRD for the cost."""
    maps = [(path, node) for path, node in nodes(job_schema()) if "additionalProperties" in node]
    assert [path for path, node in maps if "x-kubernetes-validations" in node] == []


def test_transition_rules_stand_where_the_api_server_can_tell_old_from_new() -> None:
    """Inside an entry of a list there is no old value: such a rule would refuse the CRD or never be asked."""
    misplaced = [
        path
        for path, node in nodes(job_schema())
        for rule in node.get("x-kubernetes-validations", [])
        if "oldSelf" in rule["rule"] and ("[]" in path or "{}" in path)
    ]
    assert misplaced == []


def test_every_rule_is_broken_by_a_case() -> None:
    """A rule that no manifest of the tables breaks could as well not be there."""
    said = {problem.what for case in cases() for problem in violations(case.manifest)}
    said |= {problem.what for number in range(len(changes())) for problem in violated(number)}
    assert [rule["message"] for rule in RULES if rule["message"] not in said] == []


@cache
def violated(number: int) -> list[Problem]:
    """What a change of the table violates; evaluated once for all tests, since a change costs a tenth of a second."""
    return violations(changes()[number].new, changes()[number].old)


@pytest.mark.parametrize("number", range(len(changes())), ids=lambda number: changes()[number].name)
def test_a_change_is_refused_where_it_would_make_void_what_was_made(number: int) -> None:
    """Contract 8: what enters train's key or its inputs' keys is fixed, all else may change."""
    assert sorted(changes()[number].refused) == sorted(problem.path for problem in violated(number))


@pytest.mark.parametrize("change", changes(), ids=lambda change: change.name)
def test_the_objects_before_and_after_a_change_are_good_alone(change: Change) -> None:
    """The refusals above are about the change, not about the objects."""
    assert violations(change.old) + violations(change.new) == []


def test_a_rule_that_cannot_be_evaluated_is_violated() -> None:
    """As in the API server: a missing field must not open a way around a rule."""
    broken: dict[str, Any] = {"spec": {"training": {"batchSize": "many"}}}
    assert "spec.training.batchSize" in {problem.path for problem in violations(broken)}
