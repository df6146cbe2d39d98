# Cases that once failed: each was found by test/fuzz or by a reader of the code.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
# with synchronous_commit off, the worker itself must flush
my $node = start_node('restart_after_crash' => 'on', 'wal_writer_delay' => '10s', 'fsync' => 'off', 'contactsync.probe_interval' => '1s');

create_server($node, $sandbox, 'spotzee', server => { pace => 100, burst => 100 });
create_server($node, $sandbox, 'mailingcore', account => 'mail', server => { pace => 100, burst => 100, timeout => '2s' });

sub wait_until_done
{
	my ($title) = @_;
	$node->poll_query_until('postgres', q{SELECT bool_and(backlog = 0) FROM contactsync.status}) or die "timed out waiting for: $title";
	$node->safe_psql('postgres', 'CALL contactsync_wait(NULL)');
	return;
}

sub emails { return join(' ', sort map { $_->{email} } @{ $sandbox->contacts('mailingcore', account => 'mail') }); }

# A call that will be repeated waits without using CPU time.
$node->safe_psql('postgres', q{SELECT contactsync_upsert('spotzee', '{"external_id": "0", "email": "zero@example.com"}')});
wait_until_done('the first contact');
$sandbox->fault('spotzee', { times => 1, action => { status => 503 } });
$node->safe_psql('postgres', q{SELECT contactsync_upsert('spotzee', '{"external_id": "1", "email": "one@example.com"}')});
$sandbox->wait_for_journal('spotzee', sub { grep { ($_->{status} // 0) == 503 } @_ });
$node->safe_psql('postgres', q{SELECT contactsync_upsert('spotzee', '{"external_id": "2", "email": "two@example.com"}')});
wait_until_done('a repeated call');
like(
	join(' ', map { "$_->{keys}[0]" } @{ $sandbox->journal('spotzee') }),
	qr/^\S+ (\S+) (?!\1)\S+ \1$/, 'what came after a call that failed does not wait for its repetition');

# The longest keys that an index of the table accepts are too long for an index of contactsync.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE long_keys (id text PRIMARY KEY, email text);
	SELECT contactsync_watch('long_keys', 'mail', '{"email": "email"}');
	INSERT INTO long_keys SELECT string_agg(md5(g::text), '') || repeat('x', 30), 'long@example.com' FROM generate_series(1, 83) g;
	INSERT INTO long_keys VALUES ('short', 'short@example.com');
});
wait_until_done('a long key');
is(emails(), 'short@example.com', 'a key that is too long does not delay others');
is($node->safe_psql('postgres', q{SELECT reason, message FROM contactsync.failures}),
	'invalid_field|the key of the row is longer than 2650 bytes', 'a key that is too long fails');
$node->safe_psql('postgres', q{SELECT contactsync_unwatch('long_keys', 'mail')});

# A contact is removed if its row is removed while the call is in flight.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE customers (id text PRIMARY KEY, email text);
	SELECT contactsync_watch('customers', 'mail', '{"email": "email", "external_id": "id"}', on_delete => 'delete', delete_delay => '0');
});
foreach my $removal ('TRUNCATE customers', 'DELETE FROM customers')
{
	$sandbox->fault('mailingcore', { effect => 'after', action => { latency => 1 } });
	$node->safe_psql('postgres', q{INSERT INTO customers VALUES ('a', 'a@example.com')});
	$sandbox->wait_for_journal('mailingcore', sub { grep { $_->{in_flight} } @_ });
	$node->safe_psql('postgres', $removal);
	wait_until_done($removal);
	is(emails(), 'short@example.com', "$removal removes a contact whose call is in flight");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM contactsync.failures WHERE source = 'customers'::regclass}), '0', 'the removal causes no failure');
}

# A contact that may have been sent is removed as well.
$sandbox->fault('mailingcore', { effect => 'after', action => { reset => 'before' } });
$node->safe_psql('postgres', q{INSERT INTO customers VALUES ('b', 'b@example.com')});
$sandbox->wait_for_journal('mailingcore', sub { grep { ($_->{body} // '') =~ /b\@example/ && !$_->{in_flight} } @_ });
$node->safe_psql('postgres', q{DELETE FROM customers});
wait_until_done('a lost answer');
is(emails(), 'short@example.com', 'a contact that may have been sent is removed');

# A dropped watch leaves nothing behind, whatever is in flight.
$sandbox->fault('mailingcore', { action => { latency => 0.5 } });
$node->safe_psql('postgres', q{INSERT INTO customers VALUES ('c', 'c@example.com')});
$sandbox->wait_for_journal('mailingcore', sub { grep { $_->{in_flight} } @_ });
$node->safe_psql('postgres', q{SELECT contactsync_unwatch('customers', 'mail')});
$sandbox->wait_for_contacts('mailingcore', 2, account => 'mail');
$node->poll_query_until(
	'postgres', q{
	SELECT NOT EXISTS (SELECT FROM contactsync.source_row WHERE watch NOT IN (SELECT id FROM contactsync.watch) AND watch <> 0)
	AND NOT EXISTS (SELECT FROM contactsync.counter WHERE watch NOT IN (SELECT id FROM contactsync.watch) AND watch <> 0)})
  or die 'timed out waiting for nothing to be left';
pass('a watch that is dropped while a call is in flight leaves nothing');

# A row that returns to the address that it had does not wait for itself. Its new address was not accepted before the halt, so that
# it keeps both against others. As a plain role.
$node->safe_psql('postgres', 'CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop');
create_server($node, $sandbox, 'mailingcore', account => 'returned', role => 'shop', server => { pace => 100, burst => 100 });
$node->safe_psql(
	'postgres', q{
	CREATE TABLE returned (id int PRIMARY KEY, email text, name text);
	SELECT contactsync_watch('returned', 'returned', '{"email": "email", "attributes": {"name": "name"}}');
	INSERT INTO returned VALUES (1, 'a@example.com', 'first');
	CALL contactsync_wait('returned');
}, extra_params => [ '-U', 'shop' ]);
$sandbox->fault('mailingcore', { match => { account => 'returned' }, times => 1, action => { status => 401 } });
$node->safe_psql('postgres', q{UPDATE returned SET email = 'b@example.com'});
$node->poll_query_until('postgres', q{SELECT state = 'halted' FROM contactsync.status WHERE server = 'returned'}) or die 'timed out waiting for a halt';
$node->safe_psql('postgres', q{UPDATE returned SET email = 'a@example.com', name = 'returned'});
wait_until_done('a row that returns to its address');
is(join(' ', map { "$_->{email} $_->{attributes}{name}" } @{ $sandbox->contacts('mailingcore', account => 'returned') }),
	'a@example.com returned', 'a row whose change of address was not accepted, and was taken back, is sent');

# Rows are on disk before they are sent.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE careless (id text PRIMARY KEY, email text);
	SELECT contactsync_watch('careless', 'mail', '{"email": "email"}');
	INSERT INTO careless VALUES ('1', 'careful@example.com');
});
wait_until_done('a careful commit');
$node->safe_psql('postgres', q{SET synchronous_commit = off; INSERT INTO careless VALUES ('2', 'careless@example.com')});
wait_until_done('a careless commit');
crash_worker($node, 'postgres');
is($node->safe_psql('postgres', q{SELECT count(*) FROM careless}), '2', 'rows that were sent still exist after a crash');

$node->stop;
done_testing();
