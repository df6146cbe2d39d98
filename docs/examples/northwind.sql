-- Northwind: https://github.com/pthom/northwind_psql
--
-- Its customers are companies with a person to talk to, and have no e-mail address: both columns are added. Rows without an
-- address are not sent; they go as soon as one is entered.

ALTER TABLE customers ADD COLUMN contact_email text, ADD COLUMN newsletter boolean NOT NULL DEFAULT false;
UPDATE customers SET contact_email = lower(customer_id) || '@example.com' WHERE country = 'Germany';

-- contact_name is the whole name of a person.
SELECT contactsync_watch('customers', 'mailingcore',
    mapping => '{"email": "contact_email", "external_id": "customer_id",
                 "first_name": "split_part(contact_name, '' '', 1)",
                 "last_name": "nullif(substr(contact_name, strpos(contact_name || '' '', '' '') + 1), '''')",
                 "phone": "phone", "opt_in": "newsletter",
                 "attributes": {"company": "company_name", "country": "country", "title": "contact_title"}}',
    filter => 'contact_email IS NOT NULL', on_delete => 'unsubscribe');

-- Other servers can have the same in a view, which also says it once. Views have no triggers: they are polled, here by a column
-- that the application, or a trigger of yours, sets with each change.
ALTER TABLE customers ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
CREATE VIEW mailing AS
SELECT customer_id, contact_email AS email, newsletter AS opt_in, updated_at,
    split_part(contact_name, ' ', 1) AS first_name,
    nullif(substr(contact_name, strpos(contact_name || ' ', ' ') + 1), '') AS last_name
FROM customers WHERE contact_email IS NOT NULL;

-- Without a mapping, the columns are sent that are called like a field.
SELECT contactsync_watch('mailing', s, capture => 'poll', poll_column => 'updated_at', key => '{customer_id}', poll_every => '1 min')
FROM unnest(ARRAY['caramel', 'owlat', 'campaignlark']) s;
SELECT contactsync_watch('mailing', 'spotzee', mapping => '{"external_id": "customer_id", "email": "email", "opt_in": "opt_in",
        "attributes": {"first_name": "first_name", "last_name": "last_name"}}',
    capture => 'poll', poll_column => 'updated_at', key => '{customer_id}', poll_every => '1 min');

-- Send who was there before. Nobody is subscribed by this, since nobody has said so.
SELECT contactsync_import('mailing', s, automations => 'paused') FROM unnest(ARRAY['caramel', 'owlat', 'campaignlark']) s;
SELECT contactsync_import('mailing', 'spotzee');
SELECT contactsync_import('customers', 'mailingcore');

CALL contactsync_wait('mailingcore');
CALL contactsync_wait('caramel');
CALL contactsync_wait('owlat');
CALL contactsync_wait('spotzee');
CALL contactsync_wait('campaignlark');
SELECT server, source, state, synced, failures FROM contactsync.status;
