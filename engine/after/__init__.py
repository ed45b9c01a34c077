"""What follows training: jobs on a trained run (eval, judge, chat, merge, export). `job.py` says what a job is."""
