"""From answers and losses to scores with intervals: which prompts are answered, how answers are judged, how surely."""
