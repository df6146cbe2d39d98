# Altered watches and tables: this alone sends nothing, a reconciliation sends what differs, and
# changes made while a watch is broken are sent automatically when it is corrected.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.clock_speed' => 20);

# everything is done by a role that owns nothing but its servers and tables
$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop});
create_server($node, $sandbox, 'mailingcore', account => 'crm', role => 'shop');

sub sql { return $node->safe_psql('postgres', join('', @_), extra_params => [ '-U', 'shop' ]); }
sub admin { return $node->safe_psql('postgres', $_[0]); }

# return the contacts that arrived since the last call of this function
my $seen = 0;

sub arrived
{
	my @requests = @{ $sandbox->journal('mailingcore') };
	my @keys = sort grep { !/@/ } map { @{ $_->{keys} // [] } } @requests[ $seen .. $#requests ];

	$seen = @requests;
	return join(' ', @keys);
}

sub remote_plan
{
	my ($id) = @_;
	my ($contact) = grep { $_->{externalId} == $id } @{ $sandbox->contacts('mailingcore', account => 'crm') };

	return $contact->{attributes}{plan};
}

sql(
	q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, plan text, city text, active boolean DEFAULT true);
	SELECT contactsync_watch('customers', 'crm', '{"email": "email", "external_id": "id", "attributes": {"plan": "plan"}}');
	INSERT INTO customers SELECT g, format('c%s@example.com', g), CASE WHEN g <= 5 THEN 'a' ELSE 'A' END, 'x' FROM generate_series(1, 9) g;
	CALL contactsync_wait('crm')});
is(arrived(), '1 2 3 4 5 6 7 8 9', 'the table is mirrored');

# another mapping: the number of differing contacts is returned, nothing is sent, then a reconciliation sends them
my $mapping = q{'{"email": "email", "external_id": "id", "attributes": {"plan": "upper(plan)"}}'};
is(sql("SELECT contactsync_alter_watch('customers', 'crm', mapping => $mapping)"), '5', 'contactsync_alter_watch() returns the number of differing contacts');
sql(q{UPDATE customers SET email = 'new@example.com' WHERE id = 9; CALL contactsync_wait('crm')});
is(arrived(), '9', 'it sends nothing');
sql(q{SELECT contactsync_reconcile('customers', 'crm'); CALL contactsync_wait('crm')});
$node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM contactsync.scan WHERE state = 'running') AND NOT EXISTS (SELECT FROM contactsync.queue)})
  or die 'timed out waiting for the reconciliation';
is(arrived(), '1 2 3 4 5', 'a reconciliation sends exactly these contacts');
is(remote_plan(1), 'A', 'it uses the new mapping');

# other sessions write during the alteration: no change is missed
my $session = $node->background_psql('postgres', extra_params => [ '-U', 'shop' ]);
$session->query_safe(q{BEGIN; UPDATE customers SET city = 'y' WHERE id = 1});
my $altering = $node->background_psql('postgres', extra_params => [ '-U', 'shop' ]);
$altering->query_until(qr/go/, qq{\\echo go\nSELECT contactsync_alter_watch('customers', 'crm', mapping => replace($mapping, 'upper(plan)', 'city')::jsonb);\n});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND relation = 'customers'::regclass}) or die 'timed out waiting for the lock';
$session->query_safe('COMMIT');
$altering->quit;
$session->quit;
is(sql(q{SELECT mapping #>> '{attributes,plan}' FROM contactsync.watches}), 'city', 'the alteration waits for writers');
sql(q{UPDATE customers SET city = 'z' WHERE id = 2; UPDATE customers SET plan = 'unused' WHERE id = 3; CALL contactsync_wait('crm')});
is(arrived(), '2', 'afterwards only changes of the newly mapped columns are captured');
is(remote_plan(2), 'z', '... they are sent');

# columns are renamed by a session that writes in the same transaction
sql(q{
	ALTER TABLE customers RENAME city TO town;
	ALTER TABLE customers RENAME id TO number;
	UPDATE customers SET town = 'renamed' WHERE number = 3;
	CALL contactsync_wait('crm')});
is(arrived() . remote_plan(3), '3renamed', 'renamed columns are followed');

# a column is dropped: the watch breaks at once, the application continues, and no change is lost
sql('ALTER TABLE customers DROP COLUMN town');
$node->poll_query_until('postgres', q{SELECT state = 'broken' AND reason = 'column "town" does not exist' FROM contactsync.status})
  or die 'timed out waiting for the watch to be broken';
sql(q{UPDATE customers SET email = 'meanwhile@example.com' WHERE number = 4; INSERT INTO customers (number, email) VALUES (10, 'ten@example.com')});
is(arrived(), '', 'a watch with a dropped column sends nothing');
sql(q{ALTER TABLE customers ADD COLUMN town text DEFAULT 'back'});
$node->poll_query_until('postgres', q{SELECT state = 'idle' FROM contactsync.status}) or die 'timed out waiting for the watch to be mended';
is(arrived() . remote_plan(4), '10 4back', 'when the column exists again, captured changes are sent');

# corrected by another mapping
sql('ALTER TABLE customers DROP COLUMN town');
$node->poll_query_until('postgres', q{SELECT state = 'broken' FROM contactsync.status}) or die 'timed out waiting for the watch to be broken again';
sql(q{UPDATE customers SET email = 'again@example.com' WHERE number = 4});
sql(q{SELECT contactsync_alter_watch('customers', 'crm', mapping => '{"email": "email", "external_id": "number", "attributes": {"plan": "plan"}}');
	CALL contactsync_wait('crm')});
is(arrived() . remote_plan(4), '4a', 'captured changes are sent when the mapping does not need the column');

# a row that has gone is back under another key, which a broken watch has not read yet: its contact is not removed. What is to be
# removed is held by another watch, whose rows have not been read yet, until the first one is broken.
create_server($node, $sandbox, 'mailingcore', account => 'list', role => 'shop');
sub listed { return join(' ', sort map { $_->{externalId} } @{ $sandbox->contacts('mailingcore', account => 'list') }); }
sql(q{
	CREATE TABLE people (id int PRIMARY KEY, ext text, city text DEFAULT 'a');
	CREATE TABLE others (id int PRIMARY KEY, ext text, city text DEFAULT 'a');
	INSERT INTO others VALUES (1, 'joe'), (2, 'kim');
	SELECT contactsync_watch(t, 'list', '{"email": "ext || ''@example.com''", "external_id": "ext", "attributes": {"city": "city"}}',
		on_delete => 'delete', delete_delay => '0') FROM unnest('{people, others}'::regclass[]) t;
	INSERT INTO people VALUES (1, 'jane'), (2, 'bob');
	CALL contactsync_wait('list');
	DELETE FROM people;
	CALL contactsync_wait('list')});
is(admin(q{SELECT string_agg(upsert_key, ' ' ORDER BY upsert_key) FROM contactsync.departure}), 'bob jane', 'two contacts are to be removed');
sql('ALTER TABLE people DROP COLUMN city');
$node->poll_query_until('postgres', q{SELECT state = 'broken' FROM contactsync.status WHERE source = 'people'::regclass}) or die 'timed out waiting for the watch to be broken';
sql(q{
	INSERT INTO people VALUES (3, 'jane');
	SELECT contactsync_import('others', 'list')});
$sandbox->wait_for_contacts('mailingcore', 4, account => 'list');
sql(q{DELETE FROM others WHERE id = 2});
wait_for('the removal of what another watch has left', sub { listed() !~ /kim/ });
is(listed(), 'bob jane joe', 'a broken watch removes nobody');
sql(q{ALTER TABLE people ADD COLUMN city text DEFAULT 'back'});
wait_for('the removal of who has not come back', sub { listed() !~ /bob/ });
is(listed(), 'jane joe', 'when it works again, who has not come back is removed');
is(scalar(grep { $_->{method} eq 'DELETE' } @{ $sandbox->journal('mailingcore', account => 'list') }), 2, 'nobody else was, for a moment either');

# the owner of the watch is dropped: nothing remains, and nobody waits
admin(q{
	CREATE ROLE owner;
	GRANT ALL ON SCHEMA public TO owner;
	GRANT USAGE ON FOREIGN SERVER crm TO owner;
	CREATE USER MAPPING FOR owner SERVER crm OPTIONS (api_key 'mc_test_crm');
	SET ROLE owner;
	CREATE TABLE theirs (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('theirs', 'crm', '{"email": "email", "external_id": "id"}');
	RESET ROLE;
	ALTER TABLE theirs OWNER TO CURRENT_USER;
	DROP OWNED BY owner;
	DROP ROLE owner;
	INSERT INTO theirs VALUES (1, 'theirs@example.com')});
$node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM contactsync.status WHERE source = 'theirs'::regclass)}) or die 'timed out waiting for the watch to be gone';
is(admin(q{SELECT count(*) FROM contactsync.queue}), '0', 'nothing of a dropped role remains');

$node->stop;
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/(PANIC|terminated by signal|could not follow|cache lookup)/, 'the log contains no crash');
done_testing();
