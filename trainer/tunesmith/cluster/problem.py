"""What keeps a cluster command from its end, as a person reads it: a sentence, what helps, and the exit code."""


class ClusterProblem(Exception):
    """`code` is 2 where the call or the manifest is wrong, else 1; `status` is the API server's, 0 where it said none.

    `passing`: it may well be over in a while, so that whoever watches asks again.
    """

    def __init__(self, message: str, hint: str = "", *, code: int = 1, status: int = 0, passing: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.status = status
        self.passing = passing


def wrong(message: str, hint: str = "") -> ClusterProblem:
    """What only another call, or another manifest, can mend."""
    return ClusterProblem(message, hint, code=2)
