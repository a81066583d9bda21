"""The default schedule: what beat asks for, and how often in seconds. What an administrator changed stays."""

from apps.core.queue import (
    CLEAR_SESSIONS,
    COMPLETE_STUDIES,
    FOLD_JOURNAL,
    PRUNE_OUTBOX,
    PRUNE_TRAFFIC,
    PUBLISH_RULES,
    SEND_DUE_WORK,
    SWEEP_SPOOL,
)

DEFAULT_SCHEDULE = (
    (SEND_DUE_WORK, 10, "Ask again for print jobs and retrieves that wait for their next attempt."),
    (SWEEP_SPOOL, 10, "Publish spooled batches that nobody took, close those of receivers that died."),
    (PUBLISH_RULES, 60, "Look up the host names of nodes, heal what the receiver reads of who may connect."),
    (FOLD_JOURNAL, 15, "Count what the receiver wrote down: traffic by AE title, rejected callers."),
    (PRUNE_TRAFFIC, 3600, "Remove traffic numbers that are older than DICOMSYS_TRAFFIC_DAYS."),
    (COMPLETE_STUDIES, 10, "Mark studies complete for which no image came any more."),
    (PRUNE_OUTBOX, 3600, "Remove outbox rows that were published more than a week ago."),
    (CLEAR_SESSIONS, 3600, "Remove expired sessions, which hold what was searched."),
)
