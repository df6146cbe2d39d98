# While the worker waits for a provider, it holds no transaction, snapshot or lock.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

create_server($node, $sandbox, 'mailingcore', account => 'bulk');
create_server($node, $sandbox, 'campaignlark', account => 'single');
create_server($node, $sandbox, 'campaignlark', account => 'throttled');
create_server($node, $sandbox, 'mailingcore', account => 'halted', mapping => { api_key => 'mc_test_wrong' });
$node->safe_psql(
	'postgres', q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, consent boolean NOT NULL DEFAULT false);
	SELECT contactsync_watch('customers', s, m::jsonb) FROM (VALUES
		('bulk', '{"email": "email", "external_id": "id"}'), ('halted', '{"email": "email", "external_id": "id"}'),
		('single', '{"email": "email", "opt_in": "consent"}'), ('throttled', '{"email": "email", "opt_in": "consent"}')) v (s, m);
});
$sandbox->fault('mailingcore', { match => { account => 'bulk' }, times => undef, action => { stall => \1 } });
$sandbox->fault('campaignlark', { match => { account => 'single' }, times => undef, action => { stall => \1, stall_at => 'inside' } });
$sandbox->fault('campaignlark', { match => { account => 'throttled' }, times => undef, action => { status => 429, retry_after => 3600 } });
$node->safe_psql('postgres', q{INSERT INTO customers SELECT g, format('c%s@example.com', g) FROM generate_series(1, 30) g});

$sandbox->wait_for_journal($_, sub { grep { $_->{in_flight} } @_ }) foreach 'mailingcore', 'campaignlark';
$node->poll_query_until('postgres', q{SELECT string_agg(state, ',' ORDER BY server) = 'running,halted,running,throttled' FROM contactsync.status})
  or die 'timed out waiting for all to wait';
$node->poll_query_until('postgres', q{SELECT state = 'idle' FROM pg_stat_activity WHERE backend_type = 'contactsync worker'})
  or die 'timed out waiting for the worker to wait';

is( $node->safe_psql(
		'postgres', q{
		SELECT a.xact_start IS NULL, a.backend_xmin IS NULL, a.backend_xid IS NULL,
			(SELECT string_agg(locktype || ' ' || mode, ',') FROM pg_locks l WHERE l.pid = a.pid)
		FROM pg_stat_activity a WHERE backend_type = 'contactsync worker'}),
	't|t|t|object ExclusiveLock', 'the worker holds only its lock on the queue');
is($node->safe_psql('postgres', q{SELECT sum(in_flight) >= 2 FROM contactsync.status}), 't', 'status shows the calls in flight');

# the application and its administrator continue to work
my $work = q{
	SET lock_timeout = '1s';
	UPDATE customers SET email = 'new' || email;
	DELETE FROM customers WHERE id = 30;
	ALTER TABLE customers ADD extra int;
	BEGIN; LOCK customers IN ACCESS EXCLUSIVE MODE; COMMIT;
	TRUNCATE customers;
	INSERT INTO customers SELECT g, format('d%s@example.com', g) FROM generate_series(1, 30) g;
};
is($node->psql('postgres', $work, on_error_stop => 1), 0, 'rows can be changed, and tables altered');
$node->safe_psql('postgres', 'CREATE TABLE dead AS SELECT 1 AS n; DELETE FROM dead');
my $vacuumed = '';
$node->psql('postgres', 'VACUUM (VERBOSE) dead', stderr => \$vacuumed);
like($vacuumed, qr/tuples: 1 removed, 0 remain, 0 are dead but not yet removable/, 'dead rows can be removed');

$sandbox->clear_faults($_) foreach 'mailingcore', 'campaignlark';
$node->poll_query_until('postgres', q{SELECT sum(backlog) = 0 FROM contactsync.status WHERE server IN ('bulk', 'single')})
  or die 'timed out waiting for the end';
is( $node->safe_psql('postgres', q{SELECT string_agg(email, ',' ORDER BY email) FROM customers}),
	join(',', sort map { $_->{email} } @{ $sandbox->contacts('mailingcore', account => 'bulk') }),
	'the provider ends with what the table says');

$node->stop;
done_testing();
