"""The database: the only SQL of the project. `connection.open_database`, then one module per family of queries."""
