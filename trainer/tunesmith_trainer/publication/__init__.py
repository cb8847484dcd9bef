"""What publish makes of measured files: verdicts, report, model card, Modelfiles, a picture of the training."""
