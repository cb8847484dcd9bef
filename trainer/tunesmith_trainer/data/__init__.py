"""From source files to tokens: read, understand, check, split, render, mask, report; one module each, in this order."""
