-- Rows are read only where no code of another role would run with the rights of the reader.

\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_root SUPERUSER;
CREATE ROLE regress_shop;
CREATE ROLE regress_mallory;
SET SESSION AUTHORIZATION regress_root;
GRANT ALL ON SCHEMA public TO regress_shop, regress_mallory;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'roots');
GRANT USAGE ON FOREIGN SERVER mail TO regress_shop, regress_mallory;
CREATE USER MAPPING FOR regress_shop SERVER mail OPTIONS (api_key 'shops');

-- what she has of her own: code that says as whom it runs
SET ROLE regress_mallory;
CREATE FUNCTION reveal() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'code of mallory runs as %', CASE WHEN current_user = 'regress_mallory' THEN current_user ELSE 'another role' END; END $$;
CREATE TYPE trap AS (x text);
CREATE FUNCTION spring(trap) RETURNS text LANGUAGE sql AS 'SELECT reveal()';
CREATE CAST (trap AS text) WITH FUNCTION spring(trap) AS IMPLICIT;
CREATE FUNCTION compare(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT reveal() IS NULL';
CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = compare);
CREATE OPERATOR ==== (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq);
CREATE DOMAIN pit AS text CHECK (VALUE <> '' OR reveal() IS NULL);
CREATE TABLE hers (id int PRIMARY KEY, email text, name text);
INSERT INTO hers VALUES (1, 'nobody', 'A');
GRANT SELECT, TRIGGER ON hers TO regress_shop;
RESET ROLE;

--
-- Tables of others
--

-- a superuser reads them as their owner
SELECT contactsync_watch('hers', 'mail', '{"email": "email", "first_name": "replace(current_user, ''regress_'', '''')"}') IS NOT NULL AS watched;
UPDATE hers SET email = 'jane@example.com';
SELECT first_name FROM contactsync_export('hers', 'mail');
-- also what she does to them later
ALTER TABLE hers OWNER TO regress_shop;
SELECT first_name FROM contactsync_export('hers', 'mail');
ALTER TABLE hers OWNER TO regress_mallory;
SET ROLE regress_mallory;
ALTER TABLE hers ALTER name TYPE trap USING ROW(name)::trap;
RESET ROLE;
SELECT first_name FROM contactsync_export('hers', 'mail');
SELECT contactsync_alter_watch('hers', 'mail', mapping => '{"email": "email", "first_name": "name::text"}') IS NOT NULL AS altered;
SELECT first_name FROM contactsync_export('hers', 'mail');
-- nor is there more to see in a trial or a preview
SELECT outcome, message, contact FROM contactsync_preview('hers', 'mail', ARRAY[1]);
SELECT outcome, message, contact FROM contactsync_try('hers', 'mail', '{"email": "email", "first_name": "name::text"}');
SELECT outcome, message, contact FROM contactsync_try('hers', 'mail', '{"email": "email", "first_name": "current_user"}', filter => 'email::pit IS NOT NULL');
SELECT contactsync_unwatch('hers', 'mail');
SET ROLE regress_mallory;
ALTER TABLE hers ALTER name TYPE text USING (name).x;
GRANT SELECT, TRIGGER ON hers TO regress_shop;
RESET ROLE;
-- another role cannot watch them, unless it has her rights anyway
SET ROLE regress_shop;
SELECT contactsync_watch('hers', 'mail', '{"email": "email"}') IS NOT NULL AS watched;
RESET ROLE;
GRANT regress_mallory TO regress_shop;
SET ROLE regress_shop;
SELECT contactsync_watch('hers', 'mail', '{"email": "email"}') IS NOT NULL AS watched;
UPDATE hers SET email = 'nobody';
RESET ROLE;
REVOKE regress_mallory FROM regress_shop;
CALL contactsync_run();
SELECT source, state, reason FROM contactsync.watches;
SELECT contactsync_unwatch('hers', 'mail') FROM (SELECT set_config('role', 'regress_shop', true)) r;
DROP TABLE hers;

--
-- Groups into which somebody else has drawn the reader
--

CREATE ROLE regress_club;
GRANT regress_club TO regress_mallory WITH ADMIN OPTION;
GRANT ALL ON SCHEMA public TO regress_club;
SET ROLE regress_mallory;
GRANT regress_club TO regress_root, regress_shop;
CREATE TABLE clubs (id int PRIMARY KEY, email text);
INSERT INTO clubs VALUES (1, 'jane@example.com');
GRANT SELECT, TRIGGER ON clubs TO regress_shop;
ALTER TABLE clubs OWNER TO regress_club;
RESET ROLE;
SELECT contactsync_watch('clubs', 'mail', '{"email": "email", "first_name": "replace(current_user, ''regress_'', '''')"}') IS NOT NULL AS watched;
UPDATE clubs SET email = 'joe@example.com';
SELECT first_name FROM contactsync_export('clubs', 'mail');
SELECT contactsync_unwatch('clubs', 'mail');
SET ROLE regress_shop;
SELECT contactsync_watch('clubs', 'mail', '{"email": "email"}') IS NOT NULL AS watched;
RESET ROLE;
-- the hint helps
SET client_min_messages = error; -- since 16 there are two memberships then, and a warning
REVOKE regress_club FROM regress_shop;
SET client_min_messages = warning;
GRANT regress_club TO regress_shop;
SET ROLE regress_shop;
SELECT contactsync_watch('clubs', 'mail', '{"email": "email"}') IS NOT NULL AS watched;
SELECT contactsync_unwatch('clubs', 'mail');
RESET ROLE;
DROP OWNED BY regress_club CASCADE;
DROP ROLE regress_club;

--
-- Code of others in one's own tables
--

CREATE TABLE mine (id int PRIMARY KEY, email text, name text, odd trap, deep trap[], pit pit);
INSERT INTO mine VALUES (1, 'jane@example.com', 'Jane', ROW('x'), NULL, 'x');
GRANT SELECT ON mine TO regress_mallory;
-- as long as it is not used it does not matter
SELECT contactsync_watch('mine', 'mail', '{"email": "email"}') IS NOT NULL AS watched;
SELECT contactsync_alter_watch('mine', 'mail', mapping => '{"email": "email", "first_name": "odd"}');
SELECT contactsync_alter_watch('mine', 'mail', mapping => '{"email": "email", "attributes": {"deep": "deep"}}');
SELECT contactsync_alter_watch('mine', 'mail', mapping => '{"email": "email", "attributes": {"row": "mine"}}');
SELECT contactsync_alter_watch('mine', 'mail', mapping => '{"email": "email", "first_name": "pit"}');
SELECT contactsync_alter_watch('mine', 'mail', mapping => '{"email": "email", "first_name": "name::pit"}');
-- a domain over hers, which is not
CREATE DOMAIN deeper AS pit;
SELECT contactsync_alter_watch('mine', 'mail', mapping => '{"email": "email", "first_name": "name::deeper"}');
ALTER TABLE mine ADD deepest deeper[];
SELECT contactsync_alter_watch('mine', 'mail', mapping => '{"email": "email", "attributes": {"deepest": "deepest"}}');
SELECT contactsync_alter_watch('mine', 'mail', mapping => '{"email": "email", "first_name": "reveal()"}');
SELECT contactsync_alter_watch('mine', 'mail', mapping => '{"email": "email", "first_name": "(SELECT max(name) FROM mine m WHERE m.id = mine.id AND spring(m.odd) = ''x'')"}');
SELECT contactsync_alter_watch('mine', 'mail', filter => 'name === email');
-- an operator that she can have call something else tomorrow
SELECT contactsync_alter_watch('mine', 'mail', filter => 'name ==== email');
SELECT contactsync_alter_watch('mine', 'mail', filter => 'EXISTS (SELECT FROM mine m ORDER BY CASE WHEN name === email THEN 1 END)');
SELECT contactsync_alter_watch('mine', 'mail', filter => 'name IS DISTINCT FROM email');
-- a view, and a policy
CREATE VIEW looked AS SELECT id, email, now() AS at, spring(odd) AS name FROM mine;
SELECT contactsync_watch('looked', 'mail', '{"email": "email"}', key => '{id}', capture => 'poll', poll_column => 'at') IS NOT NULL AS watched;
SELECT contactsync_watch('looked', 'mail', '{"email": "email", "first_name": "name"}', key => '{id}', capture => 'poll', poll_column => 'at');
CREATE TABLE guarded (id int PRIMARY KEY, email text);
INSERT INTO guarded VALUES (1, 'nobody');
ALTER TABLE guarded OWNER TO regress_shop;
SET ROLE regress_shop;
SELECT contactsync_watch('guarded', 'mail', '{"email": "email"}') IS NOT NULL AS watched;
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON guarded USING (reveal() IS NULL);
SELECT contactsync_touch('guarded', 'mail', 1);
RESET ROLE;
CALL contactsync_run();
SELECT source, state, reason FROM contactsync.watches WHERE source = 'guarded'::regclass;
-- tables of the tree
CREATE TABLE parent (id int PRIMARY KEY, email text);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
INSERT INTO child VALUES (1, 'nobody');
SELECT contactsync_watch('parent', 'mail', '{"email": "email"}') IS NOT NULL AS watched;
ALTER TABLE child OWNER TO regress_mallory;
SELECT contactsync_alter_watch('parent', 'mail', filter => 'id > 0');

--
-- Types that change
--

CREATE TABLE typed (id int PRIMARY KEY, email text, note varchar(10), other int);
INSERT INTO typed VALUES (1, 'nobody', 'x', 1);
SELECT contactsync_watch('typed', 'mail', '{"email": "email", "attributes": {"note": "note"}}') IS NOT NULL AS watched;
-- neither a column that is not used, nor the length of one that is
ALTER TABLE typed ALTER other TYPE text, ALTER note TYPE varchar(20);
UPDATE typed SET email = 'no body';
CALL contactsync_run();
SELECT state, reason FROM contactsync.watches WHERE source = 'typed'::regclass;
ALTER TABLE typed ALTER id TYPE bigint;
UPDATE typed SET email = 'nobody';
CALL contactsync_run();
SELECT state, reason FROM contactsync.watches WHERE source = 'typed'::regclass;
SELECT hint FROM contactsync.status WHERE source = 'typed'::regclass;
SELECT contactsync_alter_watch('public.typed', 'mail') IS NOT NULL AS altered;
CALL contactsync_run();
SELECT state, reason, backlog FROM contactsync.status WHERE source = 'typed'::regclass;

DROP SERVER mail CASCADE;
DROP TABLE typed, child, parent, guarded;
DROP VIEW looked;
DROP TABLE mine;
DROP OWNED BY regress_mallory, regress_shop CASCADE;
RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_root CASCADE;
DROP ROLE regress_mallory, regress_shop, regress_root;
