"""The tables of ``platform.db``: one script for each version of them, never changed afterwards.

What has been in production is append-only by triggers, so that not even a hand-typed UPDATE
rewrites it.
"""

_TURNS_AND_RELEASES = """
CREATE TABLE turns (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    model TEXT NOT NULL,
    trigger TEXT NOT NULL,
    cut INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'promoted', 'rejected', 'failed')),
    started INTEGER NOT NULL,
    ended INTEGER,
    owner TEXT NOT NULL DEFAULT '',
    lease_until INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,
    UNIQUE (model, cut)
) STRICT;
CREATE TABLE steps (
    turn INTEGER NOT NULL REFERENCES turns (id),
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    input_digest TEXT NOT NULL,
    output TEXT NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (turn, name)
) STRICT;
CREATE TABLE examined (
    model TEXT PRIMARY KEY,
    "offset" INTEGER NOT NULL
) STRICT;
CREATE TABLE releases (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    model TEXT NOT NULL,
    version INTEGER NOT NULL,
    bundle TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('promote', 'rollback')),
    "offset" INTEGER NOT NULL,
    at INTEGER NOT NULL,
    turn INTEGER,
    "by" TEXT NOT NULL
) STRICT;
CREATE INDEX releases_by_model ON releases (model, sequence);
CREATE UNIQUE INDEX releases_once_a_turn ON releases (model, turn) WHERE turn IS NOT NULL;
CREATE TABLE workers (
    worker TEXT NOT NULL,
    model TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    PRIMARY KEY (worker, model)
) STRICT;
CREATE TRIGGER releases_keep_rows BEFORE DELETE ON releases
    BEGIN SELECT RAISE(ABORT, 'the history of releases is append-only'); END;
CREATE TRIGGER releases_keep_values BEFORE UPDATE ON releases
    BEGIN SELECT RAISE(ABORT, 'the history of releases is append-only'); END;
CREATE TRIGGER turns_keep_rows BEFORE DELETE ON turns
    BEGIN SELECT RAISE(ABORT, 'turns are never deleted'); END;
CREATE TRIGGER turns_end_once BEFORE UPDATE OF state, ended ON turns WHEN OLD.state != 'running'
    BEGIN SELECT RAISE(ABORT, 'a turn that has ended stays as it ended'); END;
"""
_SYNCS = """
CREATE TABLE syncs (
    name TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    refused BLOB NOT NULL
) STRICT;
CREATE TABLE sync_marks (
    name TEXT NOT NULL REFERENCES syncs (name),
    part TEXT NOT NULL,
    mark TEXT NOT NULL,
    PRIMARY KEY (name, part)
) STRICT;
"""
_SKEW = """
CREATE TABLE skew (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    "offset" INTEGER NOT NULL,
    state TEXT NOT NULL
) STRICT;
"""
_ROLLOUTS = """
CREATE TABLE rollouts (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    model TEXT NOT NULL,
    stage TEXT NOT NULL CHECK (stage IN ('off', 'shadow', 'canary', 'full')),
    version INTEGER NOT NULL,
    bundle TEXT NOT NULL,
    percent REAL NOT NULL CHECK (percent BETWEEN 0 AND 100),
    salt TEXT NOT NULL,
    release INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    at INTEGER NOT NULL,
    "by" TEXT NOT NULL
) STRICT;
CREATE INDEX rollouts_by_model ON rollouts (model, sequence);
CREATE TRIGGER rollouts_keep_rows BEFORE DELETE ON rollouts
    BEGIN SELECT RAISE(ABORT, 'the history of rollouts is append-only'); END;
CREATE TRIGGER rollouts_keep_values BEFORE UPDATE ON rollouts
    BEGIN SELECT RAISE(ABORT, 'the history of rollouts is append-only'); END;
ALTER TABLE workers ADD COLUMN rollout INTEGER NOT NULL DEFAULT 0;
"""
_ADOPTIONS = """
CREATE TABLE releases_with_adoptions (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    model TEXT NOT NULL,
    version INTEGER NOT NULL,
    bundle TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('promote', 'rollback', 'adopt')),
    "offset" INTEGER NOT NULL,
    at INTEGER NOT NULL,
    turn INTEGER,
    "by" TEXT NOT NULL
) STRICT;
INSERT INTO releases_with_adoptions SELECT * FROM releases;
DROP TABLE releases;
ALTER TABLE releases_with_adoptions RENAME TO releases;
CREATE INDEX releases_by_model ON releases (model, sequence);
CREATE UNIQUE INDEX releases_once_a_turn ON releases (model, turn) WHERE turn IS NOT NULL;
CREATE TRIGGER releases_keep_rows BEFORE DELETE ON releases
    BEGIN SELECT RAISE(ABORT, 'the history of releases is append-only'); END;
CREATE TRIGGER releases_keep_values BEFORE UPDATE ON releases
    BEGIN SELECT RAISE(ABORT, 'the history of releases is append-only'); END;
"""
_TEAMS = """
CREATE TABLE teams (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    quota REAL NOT NULL,
    created INTEGER NOT NULL,
    revoked INTEGER
) STRICT;
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    team INTEGER NOT NULL REFERENCES teams (number),
    digest BLOB NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER,
    revoked INTEGER
) STRICT;
CREATE TABLE "usage" (
    day INTEGER NOT NULL,
    team TEXT NOT NULL,
    scope TEXT NOT NULL,
    model TEXT NOT NULL,
    version INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (day, team, scope, model, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    "by" TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX audit_uses ON audit ("by", detail, at) WHERE action = 'use';
CREATE TRIGGER audit_keeps_rows BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_keeps_values BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER keys_keep_rows BEFORE DELETE ON keys
    BEGIN SELECT RAISE(ABORT, 'keys are revoked, never deleted'); END;
CREATE TRIGGER keys_stay_revoked BEFORE UPDATE ON keys WHEN OLD.revoked IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'a revoked key stays revoked'); END;
"""
_LOG = """
CREATE TABLE log (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    since INTEGER NOT NULL
) STRICT;
"""
SCHEMAS = (_TURNS_AND_RELEASES, _SYNCS, _SKEW, _ROLLOUTS, _ADOPTIONS, _TEAMS, _LOG)
"""What each version of the schema added to the one before."""
SCHEMA_VERSION = len(SCHEMAS)
