"""The web application and the owner of the database schema."""
