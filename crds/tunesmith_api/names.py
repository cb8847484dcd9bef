"""What objects of a cluster are marked with, and told by: for whoever writes it and whoever looks for it."""

DOMAIN = "tunesmith.dev"
JOB_LABEL = f"{DOMAIN}/job"
STAGE_LABEL = f"{DOMAIN}/stage"
RETRY_ANNOTATION = f"{DOMAIN}/retry"
# The one container of a stage's pod.
CONTAINER = "stage"
# Set in a stage's pod: the folder that has one folder for each claim of the job.
CLAIMS_VARIABLE = "TUNESMITH_CLAIMS"
# And the file with authorities to trust beside the public ones.
AUTHORITIES_VARIABLE = "TUNESMITH_AUTHORITIES"
