-- A shop with messy customer data, and the demo's own record of it.
--
-- shop.customers is the mirrored table. The schema truth contains the demo's own record, which is written when an
-- address is generated or a row changes: contactsync neither reads nor writes it, and compare.py relies on it.

CREATE ROLE shop;                           -- owns the table and the watches; not a superuser
CREATE ROLE app LOGIN;                      -- the application: has no privileges on objects of contactsync
GRANT app TO CURRENT_USER;

CREATE SCHEMA shop AUTHORIZATION shop;
CREATE SCHEMA truth;

SET ROLE shop;
CREATE TABLE shop.customers (
	id			bigint	GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	email		text,
	first_name	text	NOT NULL,
	last_name	text	NOT NULL,
	language	text	NOT NULL,
	plan		text	NOT NULL,
	points		integer	NOT NULL DEFAULT 0,
	newsletter	boolean	NOT NULL,
	last_seen	timestamptz                 -- not mapped: changes of it must not cause calls
);
RESET ROLE;
GRANT USAGE ON SCHEMA shop TO app;
GRANT SELECT, INSERT, UPDATE, DELETE ON shop.customers TO app;

-- The address that each spelling stands for; a fault is the reason why it cannot be sent.
CREATE TABLE truth.spelling (
	raw		text	PRIMARY KEY,
	address	text,
	fault	text
);

-- The history of each row, with the transaction that made each change; "there" is false where it was deleted.
CREATE TABLE truth.history (
	seq		bigint	GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	id		bigint	NOT NULL,
	email	text,
	newsletter boolean NOT NULL,
	there	boolean	NOT NULL,
	xact	xid		NOT NULL
);
CREATE INDEX ON truth.history (id, seq);

CREATE FUNCTION truth.note_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog AS $$
BEGIN
	IF TG_OP = 'DELETE' THEN
		INSERT INTO truth.history (id, email, newsletter, there, xact)
		VALUES (OLD.id, OLD.email, OLD.newsletter, false, pg_current_xact_id()::xid);
	ELSE
		INSERT INTO truth.history (id, email, newsletter, there, xact)
		VALUES (NEW.id, NEW.email, NEW.newsletter, true, pg_current_xact_id()::xid);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER note_insert AFTER INSERT OR DELETE ON shop.customers
	FOR EACH ROW EXECUTE FUNCTION truth.note_change();
CREATE TRIGGER note_update AFTER UPDATE ON shop.customers
	FOR EACH ROW WHEN ((OLD.email, OLD.first_name, OLD.last_name, OLD.language, OLD.plan, OLD.points, OLD.newsletter)
		IS DISTINCT FROM (NEW.email, NEW.first_name, NEW.last_name, NEW.language, NEW.plan, NEW.points, NEW.newsletter))
	EXECUTE FUNCTION truth.note_change();

-- Return the n-th element of a list, modulo its length.
CREATE FUNCTION shop.pick(list text[], n bigint) RETURNS text LANGUAGE sql IMMUTABLE
RETURN list[1 + mod(n, cardinality(list))];

CREATE FUNCTION shop.first_name(n bigint) RETURNS text LANGUAGE sql IMMUTABLE
RETURN shop.pick(ARRAY[
	'Anna', 'José', 'Zoë', 'Łukasz', 'Çağla', 'Jean-Luc', 'D''Arcy', 'Nguyễn Thị', 'Þór', 'Ελένη', 'Дмитрий', 'Наталія',
	'محمد', 'فاطمة', 'יעל', 'प्रिया', 'আয়েশা', 'ปิยะ', '小明', '美咲', '지훈', 'ሰላም', 'Գոհար', 'ქეთევან', 'Mary "Mae"',
	'Back\slash', E'Line\nbreak', E'Tab\tstop', '🎉 Party', '👩‍👩‍👧 Ana', 'Z̷a̷l̷g̷o̷', E'\u200FRTL', '</script>', '{{first_name}}',
	'","optIn":true,"x":"', 'Robert''); DROP TABLE', '%s%n', '   ', '-', 'null'], n);

CREATE FUNCTION shop.last_name(n bigint) RETURNS text LANGUAGE sql IMMUTABLE
RETURN shop.pick(ARRAY[
	'Müller', 'O''Hara', 'de la Cruz', 'Søndergård', 'Kowalska', 'Παπαδόπουλος', 'Иванова', 'العلي', 'כהן', 'शर्मा', '王', '田中',
	'김', 'Smith & Sons', 'Smith, Jr.', '"Quoted"', '𝒮𝒸𝓇𝒾𝓅𝓉', '😀', 'van \\ Dyk', E'Ænd\u0301'], n / 40);

-- Return the n-th possible address, as it should be sent.
CREATE FUNCTION shop.address(n bigint) RETURNS text LANGUAGE sql IMMUTABLE
RETURN shop.pick(ARRAY['anna', 'jose.m', 'zoe+shop', 'o''hara', 'j-l', 'info', 'marketing_de', 'müller', 'иван', '美咲'], n)
	|| '.' || n || '@'
	|| shop.pick(ARRAY['example.com', 'mail.example.org', 'sub.domain.example.net', 'bücher.example', 'example.co.uk'], n / 10);

CREATE FUNCTION shop.no_address(n bigint) RETURNS text LANGUAGE sql IMMUTABLE
RETURN shop.pick(ARRAY['none', 'no.at.sign.%s', 'two@at@signs.%s.example', 'two..dots.%s@example.com', 'nothing.behind.%s@',
	'@nothing.before.%s.example', 'no.dot.%s@localhost', 'a space %s@example.com', '<tag.%s>@example.com', 'x@-%s.example'], n);

-- Return an address as somebody might type it: the n-th, that of an earlier customer, or none. Record what it stands for.
CREATE FUNCTION shop.typed_address(n bigint) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog AS $$
DECLARE
	kind integer := mod(n * 37, 100);
	address text := shop.address(n);
	fault text;
	raw text;
BEGIN
	IF kind BETWEEN 87 AND 90 THEN          -- an existing customer, in a different spelling
		address := shop.address(1 + mod(n * 7919, GREATEST(n - 1, 1)));
		kind := mod(n, 87);
	END IF;
	raw := CASE
		WHEN kind < 55 THEN address
		WHEN kind < 65 THEN upper(address COLLATE "und-x-icu")
		WHEN kind < 70 THEN initcap(address COLLATE "und-x-icu")
		WHEN kind < 75 THEN '  ' || address || ' '
		WHEN kind < 79 THEN address || U&'\00A0' || E'\t\r\n'
		WHEN kind < 84 THEN address || '=20'
		WHEN kind < 87 THEN upper(address COLLATE "und-x-icu") || ' =20=20'
		WHEN kind < 93 THEN NULL
		WHEN kind < 94 THEN '   '
		WHEN kind < 97 THEN replace(shop.no_address(n / 100), '%s', n::text)
		ELSE address END;
	fault := CASE WHEN trim(raw) = '' OR raw IS NULL THEN 'missing_field' WHEN kind BETWEEN 94 AND 96 THEN 'invalid_email' END;
	IF raw IS NOT NULL THEN
		INSERT INTO truth.spelling VALUES (raw, CASE WHEN fault IS NULL THEN address END, fault) ON CONFLICT DO NOTHING;
	END IF;
	RETURN raw;
END $$;

CREATE SEQUENCE shop.number;
GRANT USAGE ON SEQUENCE shop.number TO app;

-- Add n new customers.
CREATE PROCEDURE shop.enrol(n integer) LANGUAGE sql
BEGIN ATOMIC
	INSERT INTO shop.customers (email, first_name, last_name, language, plan, points, newsletter)
	SELECT shop.typed_address(i), shop.first_name(i), shop.last_name(i),
		shop.pick('{en,de,es,fr-CA,it,ca,en-GB,pt-BR,ja}', i), shop.pick('{free,pro,team}', i / 3), mod(i * 31, 1000), mod(i, 7) <> 0
	FROM (SELECT nextval('shop.number') AS i FROM generate_series(1, n)) AS numbers;
END;
