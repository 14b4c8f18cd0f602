-- In a database that was made from another program's: what that held then, and the revision with which ours began.
CREATE TABLE taken_over (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    digest BLOB NOT NULL,
    revision INTEGER NOT NULL
) STRICT;
