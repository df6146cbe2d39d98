# A transaction that somebody leaves open holds up nobody else, whatever of the extension it has called; nor does the worker
# hold a snapshot while it waits.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.clock_speed' => 10);

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', "SET client_min_messages = warning; $sql"); }

create_server($node, $sandbox, 'mailingcore', account => $_, server => { pace => 1000, burst => 1000 }) foreach 'mine', 'other';
sql(
	q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, name text);
	CREATE TABLE orders (id int PRIMARY KEY, email text, name text);
	CREATE TABLE others (id int PRIMARY KEY, email text);
	SELECT contactsync_watch(t, 'mine', '{"email": "email", "first_name": "name"}', on_delete => 'delete', delete_delay => '0')
	FROM unnest(ARRAY['customers', 'orders']::regclass[]) t;
	SELECT contactsync_watch('others', 'other', '{"email": "email"}');
	INSERT INTO customers SELECT i, format('c%s@example.com', i), 'A' FROM generate_series(1, 20) i;
	INSERT INTO customers SELECT i, 'nobody', 'A' FROM generate_series(21, 25) i;
	INSERT INTO orders SELECT i, format('o%s@example.com', i), 'A' FROM generate_series(1, 20) i;
	CALL contactsync_wait('mine');
});
my $worker = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'};
my $pid = sql($worker);
my $n = 0;

# Run something in a transaction, and while it is open have both servers something to send.
sub leave_open
{
	my ($sql) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$n++;
	# what was queued before is in the way of what is locked
	sql("UPDATE orders SET name = 'before $n' WHERE id <= 5");
	$session->query("SET client_min_messages = error; BEGIN; $sql");
	sql(qq{
		DO \$\$
		BEGIN
			SET LOCAL lock_timeout = '10ms';
			UPDATE orders SET name = 'after $n' WHERE id > 15;
			DELETE FROM orders WHERE id = 6;
			INSERT INTO orders VALUES (6, 'o6\@example.com', 'again');
		EXCEPTION
			WHEN lock_not_available THEN NULL;
		END \$\$;
		INSERT INTO others VALUES ($n, 'x$n\@example.com');
		CALL contactsync_wait('other')});
	is(scalar @{ $sandbox->contacts('mailingcore', account => 'other') }, $n, "others are served during $sql");
	$node->poll_query_until('postgres', "SELECT backend_xmin IS NULL FROM pg_stat_activity WHERE pid = $pid") or die 'timed out waiting for the worker';
	$session->query('ROLLBACK');
	$session->quit;
	return;
}

leave_open($_) foreach (
	q{SELECT contactsync_mark_stale('mine')},
	q{SELECT contactsync_alter_watch('customers', 'mine', filter => 'id > 0')},
	q{SELECT contactsync_alter_watch('orders', 'mine', filter => 'id > 0')},
	q{SELECT contactsync_unwatch('orders', 'mine')},
	q{SELECT contactsync_watch('orders', 'other', '{"email": "email"}')},
	q{SELECT contactsync_unwatch('customers', 'mine')},
	q{SELECT contactsync_import('orders', 'mine')},
	q{SELECT contactsync_reconcile('orders', 'mine')},
	q{SELECT contactsync_reconcile('customers', 'mine', dry_run => true)},
	q{SELECT contactsync_pause('orders', 'mine')},
	q{SELECT contactsync_pause('mine')},
	q{SELECT contactsync_stats_reset('mine')},
	q{SELECT contactsync_retry('mine')},
	q{SELECT contactsync_retry('customers', 'mine')},
	q{SELECT contactsync_retry_reason('mine', 'invalid_email')},
	q{SELECT contactsync_ignore(ARRAY(SELECT id FROM contactsync.failures))},
	q{SELECT contactsync_touch('orders', 'mine', 1, 2, 3)},
	q{SELECT contactsync_trace('mine', 'o1@example.com')},
	q{SELECT contactsync_trace_row('orders', 'mine', 1)},
	q{SELECT contactsync_forget('o1@example.com')},
	q{SELECT contactsync_forget('o16@example.com')},
	q{SELECT contactsync_forget('orders', 'mine', 2)},
	q{SELECT contactsync_find('o1@example.com')},
	q{SELECT contactsync_upsert('mine', '{"email": "u@example.com"}')},
	q{SELECT count(*) FROM contactsync_export('orders', 'mine')},
	q{SELECT length(contactsync_report()) > 0},
	q{SELECT count(*) FROM contactsync.status},
	q{ALTER SERVER mine OPTIONS (SET pace '900')},
	q{ALTER USER MAPPING FOR CURRENT_USER SERVER mine OPTIONS (SET api_key 'mc_test_mine')},
	q{DROP SERVER mine CASCADE},
	q{DROP TABLE customers},
	q{ALTER TABLE customers RENAME email TO address},
	q{CREATE TABLE child (PRIMARY KEY (id)) INHERITS (customers)},
	q{TRUNCATE customers},
	q{LOCK TABLE customers},
	(map { "LOCK TABLE contactsync.$_ IN SHARE ROW EXCLUSIVE MODE" } qw(failure scan trace traced pause forgotten remote_contact)));

sql(q{CALL contactsync_wait('mine')});
is(sql(q{SELECT string_agg(DISTINCT state, ',') FROM contactsync.status}), 'idle', 'everything is sent in the end');
is(sql(q{SELECT sum(failures) FROM contactsync.status}), '5', 'and nothing more has failed');
is(sql($worker), $pid, 'the worker was not restarted');

# what everybody needs is locked: the worker waits without a snapshot, can be ended, and goes on by itself
foreach my $table (qw(endpoint watch queue contact source_row counter account))
{
	my $session = $node->background_psql('postgres');

	$session->query_safe("BEGIN; LOCK TABLE contactsync.$table");
	$n++;
	sql("INSERT INTO others VALUES ($n, 'x$n\@example.com')") if $table ne 'queue' && $table ne 'endpoint' && $table ne 'watch';
	$node->poll_query_until('postgres', "SELECT count(*) = 0 OR bool_and(backend_xmin IS NULL) FROM pg_stat_activity WHERE backend_type = 'contactsync worker'")
	  or die 'timed out waiting for the worker';
	$session->query_safe('ROLLBACK');
	$session->quit;
	sql("INSERT INTO others VALUES ($n, 'x$n\@example.com') ON CONFLICT DO NOTHING; CALL contactsync_wait('other')");
	is(scalar(grep { $_->{email} eq "x$n\@example.com" } @{ $sandbox->contacts('mailingcore', account => 'other') }), 1, "it goes on after a lock of $table");
}
is(sql($worker), $pid, 'nor was the worker restarted for that');

$node->stop;
done_testing();
