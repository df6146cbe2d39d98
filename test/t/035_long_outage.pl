# The provider is down for a day while many rows wait: no contact fails, one contact at a time is tried, the worker's memory
# does not grow with what waits, and then everything is delivered. The long form has a million rows: OUTAGE_ROWS=1000000.

use strict;
use warnings;

use ContactSync;
use PostgreSQL::Test::Utils;
use Test::More;

# a day passes in 17 s
my $speed = 5000;
my $day = 86400;
my $rows = $ENV{OUTAGE_ROWS} // 100_000;
my $changes = $rows / 100;
my $sandbox = start_sandbox(clock_speed => $speed);
my ($port) = $sandbox->url =~ /:(\d+)/;
my $node = start_node('contactsync.clock_speed' => $speed);

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub status { return sql(q{SELECT concat_ws('|', state, backlog, failures) FROM contactsync.status}); }
sub now { return $sandbox->call('GET', 'clock')->{now}; }

create_server($node, $sandbox, 'mailingcore', account => 'crm', server => { timeout => '1d', connect_timeout => '1d' });
sql(q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, plan text);
	SELECT contactsync_watch('customers', 'crm', '{"email": "email", "attributes": {"plan": "plan"}}')});

# a call takes long enough for another one to overlap
$sandbox->fault('mailingcore', { times => undef, action => { latency => 5, status => 503 } });
# small changes, and then large ones, which are read together
sql(q{SELECT contactsync_pause('crm')});
sql("INSERT INTO customers VALUES ($_, 'c$_\@example.com', 'first')") foreach 1 .. 80;
sql(qq{INSERT INTO customers SELECT g, format('c%s\@example.com', g), 'first' FROM generate_series(81, $rows) g});
sql(q{SELECT contactsync_resume('crm')});
$node->poll_query_until('postgres', q{SELECT state = 'unavailable' FROM contactsync.status}) or die 'timed out waiting for the outage';
my $down = now();
my $before = scalar @{ $sandbox->journal('mailingcore') };
wait_for('half a day', sub { now() >= $down + $day / 2 });
sql(q{UPDATE customers SET plan = 'second' WHERE id % 100 = 0});
wait_for('a day', sub { now() >= $down + $day });

is(status(), 'unavailable|' . ($rows + $changes) . '|0', 'after a day all rows wait, and no contact has failed');
my @probes = @{ $sandbox->journal('mailingcore') };
@probes = grep { !$_->{in_flight} } @probes[ $before .. $#probes ];
cmp_ok(scalar @probes, '>', 20, 'it is tried again and again');
cmp_ok(scalar @probes, '<=', ($probes[-1]{clock} - $probes[0]{clock}) / 60 + 10, 'at most once a minute, but for the first times');
is(scalar(grep { @{ $_->{keys} } != 1 } @probes), 0, 'each time with one contact');
is(scalar(grep { $probes[$_]{monotonic} < $probes[ $_ - 1 ]{monotonic} + $probes[ $_ - 1 ]{duration} } 1 .. $#probes), 0, 'never two at a time');

# a call that is under way would be answered well
sql(q{SELECT contactsync_pause('crm')});
$node->poll_query_until('postgres', q{SELECT in_flight = 0 FROM contactsync.status}) or die 'timed out waiting for the last probe';
$sandbox->stop;
my $responder = start_sandbox(fast => 1, port => $port);
sql(q{SELECT contactsync_resume('crm')});
sql(q{CALL contactsync_wait('crm')});
is(status(), 'idle|0|0', 'then everything is delivered');
is(sql('SELECT synced FROM contactsync.status'), $rows, 'each row has arrived');
is($responder->call('GET', 'fast/journal', undef, since => 1e9)->{contacts}, $rows, 'once');
is(sql('SELECT count(*) FROM contactsync.contact'), $rows, 'and is known to be there');
SKIP:
{
	my $process = '/proc/' . sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'});

	skip 'no /proc here', 1 unless -r "$process/status";
	skip 'the tool that checks the memory takes some', 1 if slurp_file("$process/maps") =~ /asan|valgrind/;
	my ($peak) = slurp_file("$process/status") =~ /^VmHWM:\s+(\d+) kB/m;
	note("the worker took at most $peak kB");
	cmp_ok($peak, '<', 112 * 1024, 'the worker has taken at most 112 MB, about 30 of which are its program and shared memory');
}

$node->stop;
done_testing();
