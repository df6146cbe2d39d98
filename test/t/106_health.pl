# The monitoring views agree with the provider's records while the worker works; problems and their end are notified once;
# all documented monitoring queries run as a member of pg_monitor.

use strict;
use warnings;

use ContactSync;
use IPC::Run;
use JSON::PP;
use Test::More;

my $speed = 20;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('contactsync.clock_speed' => $speed, 'contactsync.notify_failures' => 5, 'contactsync.probe_interval' => '1d');

sub sql { return $node->safe_psql('postgres', $_[0]); }

create_server($node, $sandbox, 'mailingcore', account => 'mail', server => { pace => 1000, burst => 1000, batch_size => 10 });
sql(q{CREATE TABLE customers (id integer PRIMARY KEY, email text); CREATE FUNCTION address(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
	SELECT contactsync_watch('customers', 'mail', '{"email": "public.address(email)"}')});

# One session listens throughout; psql shows notifications after each statement.
my $timer = IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default);
my $stdin = '';
my $stdout = '';
my $run = IPC::Run::start(
	[ 'psql', '-XAtq', '-d', $node->connstr('postgres') ],
	'<', \$stdin, '>', \$stdout, '2>', \$stdout, $timer);
$stdin .= "LISTEN contactsync;\nSELECT 'listening';\n";
$run->pump until $stdout =~ /listening/;

# Return at least that many notifications since the last call, as "event server source reason failed".
sub told
{
	my ($n) = @_;
	my @events;

	wait_for("$n notifications",
		sub {
			$stdin .= "SELECT 'looked';\n";
			$stdout = '';
			$run->pump until $stdout =~ /looked/;
			push @events, map { decode_json($_) } $stdout =~ /Asynchronous notification "contactsync" with payload "(\{.*?\})" received/g;
			return @events >= $n;
		});
	return join ', ', map { join ' ', grep { defined } @{$_}{qw(event server source reason failed)} } @events;
}

# counters
sql(q{INSERT INTO customers SELECT g, 'c' || g || '@example.com' FROM generate_series(1, 100) g; CALL contactsync_wait('mail')});
my $requests = $sandbox->count('mailingcore', account => 'mail')->{requests};
is(sql('SELECT calls, synced, failed, throttled FROM contactsync.stats'), "$requests|100|0|0", 'calls and contacts are counted');
is(sql('SELECT calls FROM contactsync.latencies ORDER BY seconds DESC LIMIT 1'), $requests, 'each call has its duration');
is(sql('SELECT sum(sent), sum(received), count(*) FROM contactsync.calls') =~ s/\|\d+$//r, sql('SELECT sent, received FROM contactsync.stats'),
	'bytes are counted as in the call log');
is(sql('SELECT sum(synced) FROM contactsync.history'), 100, 'minutes are counted');

# a throttle and a retry
$sandbox->fault('mailingcore', { match => { account => 'mail' }, times => 1, action => { status => 429, headers => { 'Retry-After' => '1' } } });
sql(q{UPDATE customers SET email = 'x' || email WHERE id = 1; CALL contactsync_wait('mail')});
is(sql('SELECT throttled FROM contactsync.stats'), 1, 'a 429 is counted');
$sandbox->fault('mailingcore', { match => { account => 'mail' }, times => 1, action => { status => 503 } });
sql(q{UPDATE customers SET email = 'y' || email WHERE id = 1; CALL contactsync_wait('mail')});
is(sql('SELECT retries > 0 FROM contactsync.stats'), 't', 'a repeated call is counted');

# many failures in a minute cause one notification; let them fail in one transaction, because the minute may end in between
sql(q{INSERT INTO customers SELECT g, 'nobody' FROM generate_series(201, 220) g; CALL contactsync_wait('mail')});
is(told(1), 'failures mail 20', 'many failures cause a notification, the first one so far');
is(sql(q{SELECT sum((reasons->>'invalid_email')::int) FROM contactsync.history}), 20, 'failures are counted by reason');
is(sql(q{SELECT hint LIKE '%contactsync_retry(%' FROM contactsync.status}), 't', 'the hint of status names contactsync_retry()');

# a halt is notified once, even if the worker is restarted
sql(q{ALTER USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (SET api_key 'mc_test_wrong'); UPDATE customers SET email = 'z' || email WHERE id < 10});
$node->poll_query_until('postgres', q{SELECT state = 'halted' FROM contactsync.status}) or die 'timed out waiting for a halt';
is(told(1), 'halted mail unauthorized', 'a halt causes a notification with only the class of its reason');
is(sql(q{SELECT hint LIKE '%ALTER USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (SET api_key%' FROM contactsync.status}), 't', 'the hint of status names ALTER USER MAPPING');
# a restarted worker reads everything again, tries, and halts again
sql(q{ALTER USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (SET api_key 'mc_test_wrong2')});
$node->poll_query_until('postgres', q{SELECT count(*) >= 2 FROM contactsync.calls WHERE status = 401}) or die 'timed out waiting for another call';
$node->poll_query_until('postgres', q{SELECT state = 'halted' FROM contactsync.status}) or die 'timed out waiting for a halt';
sql(q{ALTER USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (SET api_key 'mc_test_mail'); CALL contactsync_wait('mail')});
is(told(1), 'recovered mail', 'the recovery is notified when a contact is synced, and the halt was not notified twice');

# a watch that no longer matches its table
sql(q{DROP FUNCTION address; UPDATE customers SET email = 'a' || email WHERE id = 1});
$node->poll_query_until('postgres', q{SELECT state = 'broken' FROM contactsync.status}) or die 'timed out waiting for a broken watch';
is(told(1), 'halted mail public.customers broken', 'a broken watch causes a notification');
sql(q{CREATE FUNCTION address(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
	ALTER SERVER mail OPTIONS (SET batch_size '11'); CALL contactsync_wait('mail')});
is(told(1), 'recovered mail public.customers', 'its recovery causes a notification');
unlike($stdout, qr/example\.com|mc_test/, 'notifications contain neither contacts nor keys');

# status while a call is in flight
$sandbox->fault('mailingcore', { match => { account => 'mail' }, times => 1, action => { stall => \1 } });
sql(q{UPDATE customers SET email = 'b' || email WHERE id = 1});
$node->poll_query_until('postgres', q{SELECT in_flight = 1 AND state = 'running' AND backlog = 1 AND pace = 1000 FROM contactsync.status})
  or die 'timed out waiting for a call in flight';
pass('status shows what is in flight');
$sandbox->clear_faults('mailingcore');
sql(q{CALL contactsync_wait('mail')});

# documented monitoring queries run as a monitor
sql('CREATE ROLE monitor; GRANT pg_monitor TO monitor');
my $directory = 'monitoring';
my $yaml = PostgreSQL::Test::Utils::slurp_file("$directory/postgres_exporter.yaml");
my @queries = $yaml =~ /^(\w+):\n  query: \|\n((?:    .*\n)+)/mg;
cmp_ok(scalar @queries, '>=', 6, 'there are queries for postgres_exporter');
while (my ($name, $query) = splice @queries, 0, 2)
{
	my $columns = join ' ', sort($yaml =~ /^$name:\n.*?^  metrics:\n((?:    [^\n]*\n)+)/ms ? $1 =~ /^    - (\w+):/mg : ());
	my ($ret, $output, $error) = $node->psql('postgres', "SET ROLE monitor; COPY ($query) TO STDOUT (FORMAT csv, HEADER)");
	my ($header, @rows) = split /\n/, $output;

	is($error, '', "$name: the query runs as a member of pg_monitor");
	# a histogram is described by one entry, and has four columns
	is(join(' ', sort grep { !/_(bucket|sum|count)$/ } split /,/, $header), $columns, 'it has the described columns');
	cmp_ok(scalar @rows, '>', 0, 'it returns rows');
}
my $dashboard = decode_json(PostgreSQL::Test::Utils::slurp_file("$directory/grafana.json"));
my $panels = 0;
my %seen;
foreach my $panel (@{ $dashboard->{panels} })
{
	ok($panel->{title} && $panel->{type} && $panel->{gridPos} && !$seen{ $panel->{id} }++, "panel $panel->{title}");
	foreach my $target (@{ $panel->{targets} })
	{
		my $query = $target->{rawSql};

		# substitute Grafana's macros
		$query =~ s/\$__timeFilter\((\w+)\)/$1 BETWEEN now() - interval '1 day' AND now()/g;
		my ($ret, $output, $error) = $node->psql('postgres', "SET ROLE monitor; $query");
		is($error, '', 'the query of the panel runs');
		$panels++;
	}
}
cmp_ok($panels, '>=', 6, 'the dashboard has panels');

$stdin .= "\\q\n";
$run->finish;
done_testing();
