"""Commands in one DynamoDB table; see ``layout.py`` for what lies where and why."""
