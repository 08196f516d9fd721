"""The verbs over the tables: every rule of the system lives here. They take a session, raise server.errors, never commit."""
