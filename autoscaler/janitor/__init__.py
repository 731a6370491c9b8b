"""What the autoscaler's leader clears away in Kafka, so that nothing has to be deleted by age that is still to be done.

Reading order: trimming (pure: which records are done) -> reply_topic_watch (pure: which reply topics nobody owns any
more) -> janitor (asks and deletes).
"""
