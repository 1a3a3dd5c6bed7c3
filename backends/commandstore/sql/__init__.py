"""comby's own table ``commands``, in SQLite and Postgres: every generation of it, read and written."""
