# A publication of all tables includes those of the extension. PostgreSQL rejects updates and deletions in a published table
# that has no replica identity; everything works as without the publication.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node(-allows_streaming => 'logical');

# without a limit this would wait forever for changes that cannot be deleted from the queue
my $wait = qq{CALL contactsync_wait('crm', '$PostgreSQL::Test::Utils::timeout_default s')};

create_server($node, $sandbox, 'mailingcore', account => 'crm');
$node->safe_psql(
	'postgres', q{
	CREATE PUBLICATION everything FOR ALL TABLES;
	SELECT pg_create_logical_replication_slot('slot', 'pgoutput');
	CREATE TABLE customers (id int PRIMARY KEY, email text, plan text);
	CREATE TABLE leads (id int PRIMARY KEY, email text, changed timestamptz DEFAULT now());
	INSERT INTO customers SELECT g, format('c%s@example.com', g), 'A' FROM generate_series(1, 5) g;
	SELECT contactsync_watch('customers', 'crm', '{"email": "email", "external_id": "id", "attributes": {"plan": "plan"}}', on_delete => 'delete', delete_delay => '0');
	SELECT contactsync_watch('leads', 'crm', '{"email": "email", "external_id": "id + 100"}', capture => 'poll', poll_column => 'changed', poll_every => '1 s');
});
isnt($node->safe_psql('postgres', q{SELECT count(*) FROM pg_publication_tables WHERE schemaname = 'contactsync'}), '0', 'the tables of the extension are published');

sub remote { return join ' ', sort map { "$_->{externalId}" . ($_->{attributes}{plan} // '') } @{ $sandbox->contacts('mailingcore', account => 'crm') }; }
sub backlog { return $node->safe_psql('postgres', q{SELECT sum(backlog) FROM contactsync.status}); }

# capture and delivery
$node->safe_psql(
	'postgres', qq{
	SELECT contactsync_import('customers', 'crm');
	$wait;
	UPDATE customers SET plan = 'B' WHERE id = 1;
	DELETE FROM customers WHERE id = 2;
	INSERT INTO customers VALUES (6, 'nobody', 'A'), (7, 'c7\@example.com', 'A');
	INSERT INTO leads VALUES (1, 'lead\@example.com');
	SELECT contactsync_upsert('crm', '{"email": "direct\@example.com", "external_id": "direct"}');
	$wait;
});
$sandbox->wait_for_contacts('mailingcore', 7, account => 'crm');
is(remote(), '101 1B 3A 4A 5A 7A direct', 'changes are delivered');
$node->poll_query_until('postgres', q{SELECT sum(backlog) = 0 FROM contactsync.status}) or die 'timed out waiting for the delivery';
is($node->safe_psql('postgres', q{SELECT count(*) FROM contactsync.queue}), '0', 'and leave the queue');

# what else updates and deletes
$node->safe_psql(
	'postgres', qq{
	SELECT contactsync_trace('crm', '1');
	UPDATE customers SET plan = 'C' WHERE id = 1;
	SELECT contactsync_retry('crm');
	SELECT contactsync_pause('crm');
	SELECT contactsync_resume('crm');
	$wait;
	SELECT contactsync_ignore(array_agg(id)) FROM contactsync.failures;
	SELECT contactsync_stats_reset();
	SELECT contactsync_stats_reset();
	SELECT contactsync_alter_watch('customers', 'crm', reconcile_every => '1 h');
	SELECT contactsync_mark_stale('crm');
	SELECT contactsync_reconcile('customers', 'crm');
	$wait;
	SELECT contactsync_pull('crm');
	SELECT contactsync_trace('crm', '1', false);
	SELECT contactsync_forget('c3\@example.com');
});
is(remote(), '101 1C 3A 4A 5A 7A direct', 'all functions work');

# the end of watches
$node->safe_psql('postgres', q{SELECT contactsync_pause('crm'); UPDATE customers SET plan = 'D'});
isnt(backlog(), '0', 'something is queued');
$node->safe_psql('postgres', q{SELECT contactsync_unwatch('customers', 'crm'); DROP TABLE leads});
is($node->safe_psql('postgres', q{SELECT count(*) FROM contactsync.watches}), '0', 'watches end by contactsync_unwatch() and with their tables');
is($node->safe_psql('postgres', q{SELECT count(*) FROM contactsync.queue}), '0', 'and so does what was queued for them');
$node->safe_psql('postgres', q{DROP SERVER crm CASCADE});
is($node->safe_psql('postgres', q{SELECT count(*) FROM contactsync.status}), '0', 'and a server takes its state with it');
cmp_ok(
	$node->safe_psql('postgres', q{SELECT count(*) FROM pg_logical_slot_get_binary_changes('slot', NULL, NULL, 'proto_version', '1', 'publication_names', 'everything')}),
	'>', 100, 'all of it is decoded');

$node->stop;
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/ERROR|PANIC|terminated by signal/, 'and the log shows no error');
done_testing();
