# What ends a mapping is told apart: its own errors, whatever SQLSTATE they have, its time limit, a lock, and the end of the
# worker, which no mapping can prevent.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.source_timeout' => '300ms', 'contactsync.clock_speed' => 100);

sub sql { my ($sql, $dbname) = @_; return $node->safe_psql($dbname // 'postgres', "SET client_min_messages = warning; $sql"); }

my $worker = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker' AND datname = current_database()};

create_server($node, $sandbox, 'mailingcore', account => $_, server => { pace => 1000, burst => 1000 }) foreach 'bad', 'good';
my $define = q{
	CREATE FUNCTION act(how text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		r record;
	BEGIN
		CASE
		WHEN how ~ '^[0-9A-Z]{5}$' THEN RAISE 'raised %', how USING ERRCODE = how;
		WHEN how = 'unassigned' THEN RETURN r.x;
		WHEN how = 'catch' THEN LOOP BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;
		WHEN how = 'others' THEN LOOP BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP;
		WHEN how = 'busy' THEN LOOP BEGIN LOOP NULL; END LOOP; EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;
		WHEN how = 'nested' THEN LOOP BEGIN PERFORM act('catch'); EXCEPTION WHEN query_canceled OR OTHERS THEN NULL; END; END LOOP;
		WHEN how = 'caught' THEN BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN RETURN 'caught'; END;
		WHEN how = 'replaced' THEN BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN RAISE 'replaced'; END;
		ELSE NULL;
		END CASE;
		RETURN how;
	END $$};
sql(
	qq{
	$define;
	CREATE TABLE bad (id text PRIMARY KEY, email text, other text);
	CREATE TABLE good (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('bad', 'bad', '{"email": "email", "first_name": "act(id)"}');
	SELECT contactsync_watch('good', 'good', '{"email": "email"}');
	INSERT INTO bad VALUES ('fine', 'fine\@example.com');
	CALL contactsync_wait('bad');
});
my $pid = sql($worker);
my $rounds = 0;

# Send something through the other server.
sub send_good
{
	$rounds++;
	sql("INSERT INTO good VALUES ($rounds, 'g$rounds\@example.com'); CALL contactsync_wait('good')");
	return;
}

sub insert_bad { sql("INSERT INTO bad VALUES ('$_', lower('$_\@example.com'))") foreach @_; return; }

sub failures { my @rows = split /\n/, sql('SELECT key, reason, message FROM contactsync.failures'); return { map { my ($key, $reason, $message) = split /\|/, $_, 3; $key => "$reason: $message" } @rows }; }

# Wait until these rows have failed; other changes of both servers are sent meanwhile.
sub wait_for_failures
{
	my @keys = @_;

	wait_for("failures of @keys", sub { send_good(); my $found = failures(); @keys == grep { $found->{$_} } @keys });
	sql(q{UPDATE bad SET other = coalesce(other, '') || 'x' WHERE id = 'fine'; SELECT contactsync_touch('bad', 'bad', 'fine')});
	return failures();
}

#
# Errors of a mapping
#

my @states = qw(57014 57P01 57P02 57P03 55000 55006 58000 58030 XX000 XX001 CS001 42501 42P01 28000 3F000 22012 P0001 P0004 01000 40000 40003 25P02);
insert_bad(@states, 'unassigned');
my $found = wait_for_failures(@states, 'unassigned');
is($found->{$_}, "mapping_error: raised $_", "a mapping may raise $_") foreach @states;
like($found->{unassigned}, qr/^mapping_error: record "r" is not assigned yet/, 'or read a record that is not assigned');

#
# The time limit
#

my @slow = qw(catch others busy nested caught replaced);
insert_bad(@slow);
$found = wait_for_failures(@slow);
is($found->{$_}, 'mapping_error: mapping and filter took longer than contactsync.source_timeout', "a mapping ends, whatever it catches: $_") foreach @slow;

#
# Locks, and errors that pass
#

my @later = qw(55P03 40001 40P01 53000 53200 53400);
insert_bad(@later);
wait_for('status to say what is waited for', sub { sql(q{SELECT reason FROM contactsync.status WHERE server = 'bad' AND source IS NOT NULL}) =~ /^row \S+ has to wait: raised \S+$/ });
$found = wait_for_failures(@later);
is($found->{$_}, "mapping_error: raised $_ (tried 12 times)", "a row that fails with $_ is tried again, and then given up") foreach @later;
is(sql(q{SELECT sum(backlog) FROM contactsync.status}), '0', 'nothing waits any more');

my $failures = sql('SELECT count(*) FROM contactsync.failures');
sql(q{SELECT contactsync_pause('bad'); INSERT INTO bad VALUES ('after', 'after@example.com')});
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN; LOCK TABLE bad');
sql(q{SELECT contactsync_resume('bad')});
wait_for('status to say that the table is locked',
	sub { send_good(); sql(q{SELECT reason FROM contactsync.status WHERE server = 'bad' AND source IS NOT NULL}) =~ /^rows cannot be read for now: .*lock timeout/ });
$session->query_safe('COMMIT');
$session->quit;
sql(q{CALL contactsync_wait('bad')});
is(sql('SELECT count(*) FROM contactsync.failures'), $failures, 'while its table is locked a watch waits, and no row fails');
is(sql(q{SELECT state, reason IS NULL FROM contactsync.status WHERE server = 'bad' AND source IS NOT NULL}), 'idle|t', 'then it goes on');

# a lock that only some rows need
$session = $node->background_psql('postgres');
$session->query_safe('SELECT pg_advisory_lock(1)');
sql(
	q{
	CREATE FUNCTION locks(id int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(1) WHERE id = 50; RETURN 'x'; END $$;
	CREATE TABLE locks (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('locks', 'bad', '{"email": "email", "first_name": "locks(id)"}');
	INSERT INTO locks SELECT i, format('l%s@example.com', i) FROM generate_series(1, 100) i;
});
$node->poll_query_until('postgres', q{SELECT synced = 99 FROM contactsync.status WHERE source = 'locks'::regclass}) or die 'timed out waiting for the other rows';
pass('the others are sent');
$session->quit;
$node->poll_query_until('postgres', q{SELECT backlog = 0 FROM contactsync.status WHERE source = 'locks'::regclass}) or die 'timed out waiting for the last row';
is(sql(q{SELECT synced FROM contactsync.status WHERE source = 'locks'::regclass}), '100', 'and that one when the lock is gone');

is(sql($worker), $pid, 'the worker was not restarted');

#
# The end of the worker
#

$node->append_conf('postgresql.conf', "contactsync.source_timeout = '1d'");
$node->reload;
$node->poll_query_until('postgres', q{SELECT setting = '86400000' FROM pg_settings WHERE name = 'contactsync.source_timeout'}) or die 'timed out waiting for the setting';
sql('DELETE FROM bad');
sql(q{CALL contactsync_wait('bad')});

# Have the worker of a database run a mapping that does not end; return its pid.
sub occupy
{
	my ($how, $dbname) = @_;

	sql("INSERT INTO bad VALUES ('$how', '$how\@example.com')", $dbname);
	$node->poll_query_until($dbname // 'postgres', "SELECT state = 'active' AND query = 'contactsync: reading changes' AND (wait_event = 'PgSleep' OR '$how' = 'busy') FROM pg_stat_activity WHERE pid = ($worker)")
	  or die 'timed out waiting for the worker to be occupied';
	return sql($worker, $dbname);
}

foreach my $how (qw(catch busy))
{
	$pid = occupy($how);
	sql("SELECT pg_terminate_backend($pid)");
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid") or die 'timed out waiting for the worker to end';
	pass("the worker can be terminated while a mapping does not end: $how");
	sql("DELETE FROM bad WHERE id = '$how'");
}

sql('CREATE DATABASE other');
create_server($node, $sandbox, 'mailingcore', account => 'bad', dbname => 'other');
sql(qq{$define; CREATE TABLE bad (id text PRIMARY KEY, email text); SELECT contactsync_watch('bad', 'bad', '{"email": "email", "first_name": "act(id)"}')}, 'other');
occupy('catch', 'other');
sql('DROP DATABASE other WITH (FORCE)');
pass('its database can be dropped with FORCE');

sql('CREATE DATABASE other');
create_server($node, $sandbox, 'mailingcore', account => 'bad', dbname => 'other');
sql(qq{$define; CREATE TABLE bad (id text PRIMARY KEY, email text); SELECT contactsync_watch('bad', 'bad', '{"email": "email", "first_name": "act(id)"}')}, 'other');
occupy('nested', 'other');
sql('DROP DATABASE other');
pass('and without');

# a worker that comes up and waits for a catalog, as everybody who connects does; so other sessions cannot be used here
$session = $node->background_psql('postgres');
my $worker_pid = wait_for('a worker', sub { sql($worker) });
$session->query_safe('BEGIN; LOCK TABLE pg_db_role_setting IN ACCESS EXCLUSIVE MODE');
kill 'TERM', $worker_pid;
my $waiting = wait_for('another worker to wait for the lock',
	sub {
		my @pids = split(/\n/, $session->query_safe(q{SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'pg_db_role_setting'::regclass}));
		return (grep { PostgreSQL::Test::Utils::slurp_file("/proc/$_/cmdline") =~ /contactsync worker/ } @pids)[0];
	});
kill 'TERM', $waiting;
wait_for('the worker to end', sub { !kill 0, $waiting });
pass('a worker can be terminated while it comes up');
$session->query_safe('COMMIT');
$session->quit;

occupy('busy');
$node->stop('fast');
pass('the cluster can be stopped');
done_testing();
