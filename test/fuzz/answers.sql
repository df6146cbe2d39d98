-- Judge the answers that answers.py generates; the last query prints the faulty judgements.
\set ON_ERROR_STOP on
\pset null -
SET client_min_messages = warning;
CREATE EXTENSION contactsync;
CREATE SERVER mailingcore FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't');
CREATE SERVER campaignlark FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'campaignlark', new_contacts 'unsubscribed',
	drop_unknown_fields 'true', on_email_change 'unsubscribe');
CREATE SERVER owlat FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'owlat', topic_id 't', on_email_change 'follow');
CREATE SERVER spotzee FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'spotzee', subscription_id '7');
CREATE SERVER caramel FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'caramel', business_id 'b', form_id 'f');

CREATE UNLOGGED TABLE answer (server name, status int, headers jsonb, body text, contacts jsonb, step int, action text, state jsonb);
\copy answer FROM pstdin

-- Return what is wrong with a judgement, or NULL.
CREATE FUNCTION fault(a answer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	found text;
	n int;
	method text;
BEGIN
	SELECT string_agg(DISTINCT CASE
			WHEN verdict = 'done' AND outcome IS NULL THEN 'no outcome'
			WHEN verdict = 'done' AND outcome <> 'ok' AND reason IS NULL THEN 'no reason for a contact'
			WHEN verdict NOT IN ('done', 'step') AND (reason IS NULL OR message IS NULL) THEN 'no reason'
			WHEN verdict = 'step' AND next_step IS NULL THEN 'no next step'
			WHEN verdict = 'halt' AND at_fault IS NULL THEN 'nobody at fault'
			WHEN retry_after < 0 THEN 'negative wait'
			WHEN concat(message, code, field, note, remote_id, request_id) ~ '[[:cntrl:]]' THEN 'control characters'
			WHEN greatest(octet_length(message), octet_length(note), octet_length(remote_id)) > 500 THEN 'too long'
			-- a missing contact counts as deleted, an existing one as created, and an error of a topic does not concern the contact
			WHEN verdict = 'done' AND outcome = 'ok' AND a.status NOT BETWEEN 200 AND 299
				AND NOT (a.status = 404 AND (a.action <> 'upsert' OR a.server = 'owlat'))
				AND NOT (a.server = 'owlat' AND (a.status = 409 OR a.step = 4)) THEN 'success by status ' || a.status
			END, ', '), count(DISTINCT contact)
	INTO found, n
	FROM contactsync_judge(a.server, a.status, a.headers, a.body, a.contacts, a.step, a.action, a.state);
	SELECT p.method INTO method FROM contactsync_preview(a.server, a.contacts, a.step, a.action, a.state) p;
	RETURN COALESCE(found, CASE WHEN n NOT IN (0, jsonb_array_length(a.contacts)) THEN 'contacts are missing'
		WHEN method IS NULL THEN 'no request' END);
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate || ' ' || sqlerrm;
END $$;

SELECT server, verdict, count(*) FROM answer a, contactsync_judge(a.server, a.status, a.headers, a.body, a.contacts, a.step, a.action, a.state)
GROUP BY 1, 2 ORDER BY 1, 2;
CREATE TEMP TABLE faulty AS SELECT fault(a), a.* FROM answer a;
DELETE FROM faulty WHERE fault IS NULL;
SELECT fault, server, status, step, action, state, contacts, left(headers::text, 200) AS headers, left(body, 400) AS body
FROM faulty LIMIT 20
\g (format=unaligned)
DO $$
BEGIN
	IF EXISTS (SELECT FROM faulty) THEN
		RAISE EXCEPTION '% faults', (SELECT count(*) FROM faulty);
	END IF;
END $$;
