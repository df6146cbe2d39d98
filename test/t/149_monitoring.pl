# What is in monitoring/ is loaded by the programs that it is for: queries by postgres_exporter and sql_exporter, which show the
# figures of SQL, and rules by promtool, where they fire when they have to, and else not.
#
# These programs are in the Debian packages prometheus-postgres-exporter, prometheus-sql-exporter and prometheus. MONITORING_PROGRAMS
# names a directory of them that is not in the PATH.

use strict;
use warnings;

use ContactSync;
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir;
my $sandbox = start_sandbox();
my $node = start_node();
my $http = HTTP::Tiny->new(timeout => $PostgreSQL::Test::Utils::timeout_default, proxy => undef, http_proxy => undef);

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub program
{
	my ($name) = @_;
	my ($found) = grep { -x $_ } map { "$_/$name" } grep { defined } $ENV{MONITORING_PROGRAMS}, split /:/, $ENV{PATH};
	return $found;
}

sub run_program { my (@command) = @_; my $out = ''; my $ok = IPC::Run::run(\@command, '>', \$out, '2>&1'); return ($ok, $out); }

# a server that is halted, a watch that is held, failures, and a server that is well
foreach my $name (qw(mail halted))
{
	create_server($node, $sandbox, 'mailingcore', account => $name, server => { pace => 1000, burst => 1000 });
	sql(qq{CREATE TABLE $name (id int PRIMARY KEY, email text); SELECT contactsync_watch('$name', '$name', '{"email": "email"}');
		INSERT INTO $name SELECT g, format('c%s\@example.com', g) FROM generate_series(1, 5) g; INSERT INTO $name VALUES (6, 'nobody'); CALL contactsync_wait('$name')});
}
create_server($node, $sandbox, 'owlat', account => 'guarded', server => { pace => 1000, bulk_guard => 5 });
sql(q{CREATE TABLE guarded (id int PRIMARY KEY, email text); SELECT contactsync_watch('guarded', 'guarded', '{"email": "email"}');
	INSERT INTO guarded SELECT g, format('g%s@example.com', g) FROM generate_series(1, 20) g;
	ALTER USER MAPPING FOR CURRENT_USER SERVER halted OPTIONS (SET api_key 'mc_test_wrong'); UPDATE halted SET email = 'x' || email WHERE id = 1});
$node->poll_query_until('postgres', q{SELECT string_agg(state, ' ' ORDER BY server) = 'guarded halted idle' FROM contactsync.status}) or die 'timed out waiting for trouble';
sql(q{UPDATE contactsync.queue SET queued_at = now() - interval '1 h' WHERE endpoint = (SELECT id FROM contactsync.endpoint WHERE server = 'halted');
	CREATE ROLE monitor LOGIN; GRANT pg_monitor TO monitor});

# Start an exporter, wait until it has the figures, stop it and return them.
sub scrape
{
	my ($ready, $url, @command) = @_;
	my $log = "$dir/exporter.log";
	my $exporter = IPC::Run::start([@command], '<', \undef, '>', $log, '2>&1');
	my $metrics;

	eval { wait_for('metrics', sub { $exporter->pump_nb; $metrics = $http->get($url)->{content} // ''; $metrics =~ $ready }); 1 }
	  or diag(PostgreSQL::Test::Utils::slurp_file($log), $metrics);
	$exporter->kill_kill;
	return $metrics;
}

# Return the value of a metric with these labels.
sub value
{
	my ($metrics, $name, %label) = @_;

	foreach my $line ($metrics =~ /^(\Q$name\E\{.*)$/mg)
	{
		return $line =~ s/.*\} //r unless grep { $line !~ /\b$_="\Q$label{$_}\E"/ } keys %label;
	}
	return;
}

my $port = PostgreSQL::Test::Cluster::get_free_port();
my $failures = sql(q{SELECT failures FROM contactsync.status WHERE server = 'mail'});

SKIP:
{
	my $exporter = program('prometheus-postgres-exporter') or skip 'there is no prometheus-postgres-exporter', 6;
	local $ENV{DATA_SOURCE_NAME} = 'user=monitor dbname=postgres sslmode=disable host=' . $node->host . ' port=' . $node->port;
	my $metrics = scrape(qr/^contactsync_worker_running/m, "http://127.0.0.1:$port/metrics",
		$exporter, "--web.listen-address=127.0.0.1:$port", '--extend.query-path=monitoring/postgres_exporter.yaml', '--disable-default-metrics');

	is(value($metrics, 'contactsync_status_guarded', foreign_server => 'guarded'), 1, 'postgres_exporter: a watch is held');
	is(value($metrics, 'contactsync_status_halted', foreign_server => 'halted') . value($metrics, 'contactsync_status_halted', foreign_server => 'mail'), '10', '... a server is halted');
	cmp_ok(value($metrics, 'contactsync_status_oldest_seconds', foreign_server => 'halted') // -1, '>=', 3600, '... and changes wait');
	is(value($metrics, 'contactsync_status_failures', foreign_server => 'mail'), $failures, '... and failed');
	is(value($metrics, 'contactsync_alerts_open', foreign_server => 'halted', event => 'halted'), 1, '... trouble goes on');
	cmp_ok(value($metrics, 'contactsync_call_duration_seconds_duration_count', foreign_server => 'mail') // 0, '>', 0, '... calls have durations');
}
SKIP:
{
	my $exporter = program('prometheus-sql-exporter') or skip 'there is no prometheus-sql-exporter', 6;
	my $config = PostgreSQL::Test::Utils::slurp_file('monitoring/sql_exporter.yaml');
	my $socket = $node->host;

	# lib/pq takes the directory of the socket as a parameter
	is($config =~ s{postgres://monitor\@localhost:5432/postgres\?}{'postgres://monitor@/postgres?host=' . $socket . '&port=' . $node->port . '&'}e, 1, 'sql_exporter: there is a connection');
	$port = PostgreSQL::Test::Cluster::get_free_port();
	my $metrics = scrape(qr/^sql_contactsync_failed/m, "http://127.0.0.1:$port/metrics",
		$exporter, "-web.listen-address=127.0.0.1:$port", '-config.file=' . write_file("$dir/sql_exporter.yaml", $config));

	is(value($metrics, 'sql_contactsync_status', col => 'guarded', foreign_server => 'guarded'), 1, '... a watch is held');
	is(value($metrics, 'sql_contactsync_status', col => 'halted', foreign_server => 'halted') . value($metrics, 'sql_contactsync_status', col => 'halted', foreign_server => 'mail'), '10', '... a server is halted');
	cmp_ok(value($metrics, 'sql_contactsync_status', col => 'oldest_seconds', foreign_server => 'halted') // -1, '>=', 3600, '... and changes wait');
	is(value($metrics, 'sql_contactsync_status', col => 'failures', foreign_server => 'mail'), $failures, '... and failed');
	is(value($metrics, 'sql_contactsync_worker', col => 'running'), 1, '... the worker is running');
}

# The same queries in both files.
sub queries { my ($text, $indent) = @_; return { map { s/^ +//mgr } $text =~ /^ {$indent}(?:- name: )?(contactsync_\w+)(?::\n| *\n)(?:.*\n)*?\s*query: \|\n((?: {@{[ $indent + 4 ]},}.*\n)+)/mg }; }
my $postgres = queries(PostgreSQL::Test::Utils::slurp_file('monitoring/postgres_exporter.yaml'), 0);
my $sql = queries(PostgreSQL::Test::Utils::slurp_file('monitoring/sql_exporter.yaml'), 6);
# sql_exporter has no histograms
delete $_->{contactsync_call_duration_seconds} foreach $postgres, $sql;
cmp_ok(scalar keys %$sql, '>=', 6, 'there are queries for sql_exporter');
is_deeply($sql, $postgres, '... the same as for postgres_exporter');

# The rules, with series of both exporters.
SKIP:
{
	my $promtool = program('promtool') or skip 'there is no promtool', 2;
	my ($ok, $out) = run_program($promtool, 'check', 'rules', 'monitoring/alerts.yaml');
	ok($ok && $out =~ /SUCCESS: \d+ rules found/, 'promtool takes the rules') or diag($out);

	my @series;
	my %expected;
	my $add = sub {
		my ($source, $sql_labels) = @_;
		my $labels = qq{foreign_server="mail", source="$source", owner="shop"};

		push @series, [ "contactsync_status_" . $_->[0] . "{$labels}", $_->[1] ], [ qq|sql_contactsync_status{col="| . $_->[0] . qq|", foreign_server="crm", source="$source", owner="shop"}|, $_->[1] ]
		  foreach [ halted => '0 0 1 1 1 1 1 1 1 1' ], [ broken => '0x10' ], [ guarded => '0 0 0 1 0 0 0 0 0 0' ], [ oldest_seconds => '0 0 4000 4060 4120 4180 4240 4300 4360 4420' ], [ paused => '0x10' ];
	};
	$add->('customers');
	push @series, [ 'contactsync_worker_running', '1x10' ], [ 'sql_contactsync_worker{col="running"}', '1x10' ],
	  [ 'contactsync_failed_last_hour{foreign_server="mail", owner="shop", reason="rejected"}', '60x10' ], [ 'contactsync_failed_last_hour{foreign_server="mail", owner="shop", reason="invalid_email"}', '70x10' ];
	my $fires = sub {
		my ($minute, $rule, @of) = @_;
		return "    - eval_time: ${minute}m\n      alertname: $rule\n      exp_alerts:" . (@of ? "\n" . join '', map { "        - exp_labels: {" . $_ . "}\n" } @of : " []\n");
	};
	my @pair = map { qq(severity: critical, $_, source: customers, owner: shop) } 'foreign_server: mail', 'foreign_server: crm, col: halted';
	my @warn = map { qq(severity: warning, $_, source: customers, owner: shop) } 'foreign_server: mail';
	my $tests = "rule_files:\n  - alerts.yaml\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n"
	  . join('', map { "    - series: '$_->[0]'\n      values: '$_->[1]'\n" } @series) . "  alert_rule_test:\n"
	  . $fires->(1, 'ContactsyncHalted') . $fires->(4, 'ContactsyncHalted', @pair) . $fires->(4, 'ContactsyncBroken')
	  . $fires->(2, 'ContactsyncGuarded') . $fires->(3, 'ContactsyncGuarded', $warn[0], $warn[0] =~ s/server: mail/server: crm, col: guarded/r)
	  . $fires->(4, 'ContactsyncBacklog') . $fires->(9, 'ContactsyncBacklog', $warn[0], $warn[0] =~ s/server: mail/server: crm, col: oldest_seconds/r)
	  . $fires->(1, 'ContactsyncFailures', 'severity: warning, foreign_server: mail, owner: shop')
	  . $fires->(9, 'ContactsyncWorkerNotRunning') . $fires->(9, 'ContactsyncNoMetrics') . $fires->(9, 'ContactsyncUntold');
	my $rules = PostgreSQL::Test::Utils::slurp_file('monitoring/alerts.yaml');
	# texts are not what is tested
	$rules =~ s/^        annotations:\n(?:          .*\n)+//mg;
	write_file("$dir/alerts.yaml", $rules);
	($ok, $out) = run_program($promtool, 'test', 'rules', write_file("$dir/test.yaml", $tests));
	ok($ok, 'they fire when they have to, and else not') or diag($out, $tests);
}

# Grafana is not in Debian; what can be checked of its dashboard is checked here, and that its queries run in 106_health.
my $dashboard = decode_json(PostgreSQL::Test::Utils::slurp_file('monitoring/grafana.json'));
is(join(' ', grep { $_ ne 'bars' } map { $_->{fieldConfig}{defaults}{custom}{drawStyle} // 'none' } grep { $_->{type} eq 'timeseries' } @{ $dashboard->{panels} }), '', 'Grafana draws bars');
my @places = map { my $p = $_->{gridPos}; map { my $x = $_; map { "$x $_" } $p->{y} .. $p->{y} + $p->{h} - 1 } $p->{x} .. $p->{x} + $p->{w} - 1 } @{ $dashboard->{panels} };
my %place;
is(scalar(grep { $place{$_}++ } @places), 0, '... and no panel over another');

$node->stop;
done_testing();
