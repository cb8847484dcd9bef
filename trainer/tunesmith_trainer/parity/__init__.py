"""Whether two forms of one model are the same: metadata, chat template, token ids, next-token distributions."""
