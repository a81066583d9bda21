"""A private instance for evaluation and tests: PostgreSQL, RabbitMQ, certificates and our own processes.

`./start` and `./check` are built on it; tests start whole instances with `python -m dicomsys.evaluation`.
"""
