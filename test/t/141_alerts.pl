# alert_url is told of trouble and of its end, once each, whatever restarts or fails meanwhile; never of contacts, and without
# being in the way of delivery. What cannot be told is shown, and halts nothing.
#
# The receiver is a second sandbox, whose faults are its answers, and whose journal has what it was told.

use strict;
use warnings;

use ContactSync;
use Digest::SHA 'sha256_hex';
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $speed = 50;
my $sandbox = start_sandbox(clock_speed => $speed);
my $receiver = start_sandbox(clock_speed => $speed);
my $node = start_node('contactsync.clock_speed' => $speed, 'contactsync.probe_interval' => '1d', 'restart_after_crash' => 'on', 'log_min_messages' => 'debug1');

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub shop { return sql("SET SESSION AUTHORIZATION shop; SET client_min_messages = warning; $_[0]"); }
sub wait_until { my ($sql, $what) = @_; $node->poll_query_until('postgres', $sql) or die "timed out waiting for $what: " . sql('SELECT server, event, attempts, error FROM contactsync.alerts'); return; }

# Have the receiver answer so, to calls of one server or of all.
sub answers
{
	my ($status, %of) = @_;

	$receiver->fault('mailingcore', { match => $of{to} ? { path => "/hooks/$of{to}-*" } : {}, times => $of{times}, action => { status => $status, %{ $of{action} // {} } } });
	return;
}

# What the receiver took of a server, or what was sent at all: the entries of the journal.
sub calls
{
	my ($name) = @_;
	return grep { $_->{path} =~ m{^/hooks/$name-} } @{ $receiver->journal('mailingcore') };
}

sub bodies { my ($name) = @_; return map { decode_json($_->{body}) } grep { $_->{answered} && $_->{status} == 200 } calls($name); }

# Wait for so many messages that were taken, and return the events.
sub told
{
	my ($name, $n) = @_;

	wait_for("$n messages of $name", sub { scalar(bodies($name)) >= $n });
	return join ', ', map { join ' ', grep { defined } @{$_}{qw(event recovered_from source reason)} } bodies($name);
}

# A server with its alert_url in the user mapping, and a table.
sub prepare
{
	my ($name, %param) = @_;

	create_server($node, $sandbox, $param{provider} // 'mailingcore', account => $name, role => 'shop',
		server => { pace => 1000, burst => 1000, alert_backlog_age => 0, %{ $param{server} // {} } },
		mapping => { alert_url => $receiver->url . "/mailingcore/hooks/$name-secretpath", alert_key => 'secretkey', %{ $param{mapping} // {} } });
	shop(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text);
		SELECT contactsync_watch('$name', '$name', '@{[ $param{watch} // '{"email": "email"}' ]}');
		INSERT INTO $name SELECT g, format('c%s\@example.com', g) FROM generate_series(1, 3) g;
		CALL contactsync_wait('$name')});
	return;
}

sub touch { my ($name, $where) = @_; shop("UPDATE $name SET email = 'x' || email WHERE " . ($where // 'id = 1')); return; }

sql('CREATE EXTENSION contactsync; CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop');
answers(200);

# ---------- a halt, whatever restarts ----------

prepare('halt');
my $before = () = calls('halt');
is($before, 0, 'a server that is well tells nothing');
shop(q{ALTER USER MAPPING FOR CURRENT_USER SERVER halt OPTIONS (SET api_key 'mc_test_wrong')});
touch('halt');
is(told('halt', 1), 'halted unauthorized', 'a halt is told, with the class of its reason');
my ($halted) = bodies('halt');
my ($call) = calls('halt');
my %headers = map { lc $_->[0] => $_->[1] } @{ $call->{headers} };
is($headers{authorization}, 'Bearer sha256:' . substr(sha256_hex('secretkey'), 0, 12), 'the secret is in the header Authorization');
is("$call->{method} $headers{'content-type'}", 'POST application/json', 'the message is JSON');
like($halted->{text}, qr/^contactsync in database "postgres": Server "halt" is halted: unauthorized, since \d{4}-\d\d-\d\dT[\d:]+Z\.$/, 'it has a sentence for people');
like($halted->{hint}, qr/ALTER USER MAPPING FOR shop SERVER halt OPTIONS \(SET api_key/, '... and what to type');
is(join(' ', @{$halted}{qw(server owner database state severity failed_last_hour)}), 'halt shop postgres halted critical 0', '... and fields for programs');
like($halted->{dedup_key}, qr/^contactsync-[0-9a-f-]{36}$/, '... and a key that tells it apart');
wait_until(q{SELECT told_at IS NOT NULL AND attempts = 0 FROM contactsync.alerts WHERE server = 'halt'}, 'the message to be stored as told');
shop(q{ALTER USER MAPPING FOR CURRENT_USER SERVER halt OPTIONS (SET api_key 'mc_test_wrong2')});
wait_until(q{SELECT count(*) >= 2 FROM contactsync.calls WHERE server = 'halt' AND status = 401}, 'another call');
$node->reload;
$node->stop;
$node->start;
touch('halt', 'id = 2');
wait_until(q{SELECT count(*) >= 3 FROM contactsync.calls WHERE server = 'halt' AND status = 401}, 'another call');
is(scalar(bodies('halt')), 1, 'another wrong key, a reload and a restart tell nothing again');
shop(q{ALTER USER MAPPING FOR CURRENT_USER SERVER halt OPTIONS (SET api_key 'mc_test_halt'); CALL contactsync_wait('halt')});
is(told('halt', 2), 'halted unauthorized, recovered halted unauthorized', 'the end is told');
my (undef, $recovered) = bodies('halt');
is("$recovered->{dedup_key} $recovered->{severity} $recovered->{state}", "$halted->{dedup_key} info recovered", '... as that of the same trouble');
like($recovered->{text}, qr/: Over, from $halted->{since} to \S+Z: Server "halt" is halted/, '... in a sentence');
is(shop(q{SELECT event, reason, began_at < ended_at + interval '1 s', told_at IS NOT NULL, end_told_at IS NOT NULL, error FROM contactsync.alerts WHERE server = 'halt'}),
	'halted|unauthorized|t|t|t|', 'contactsync.alerts has it');

# ---------- a receiver that fails ----------

prepare('flaky');
answers(429, to => 'flaky', times => 1, action => { retry_after => '100' });
answers(503, to => 'flaky', times => 2);
shop(q{ALTER USER MAPPING FOR CURRENT_USER SERVER flaky OPTIONS (SET api_key 'mc_test_wrong')});
touch('flaky');
is(told('flaky', 1), 'halted unauthorized', 'a message that is not taken is sent again');
my @flaky = calls('flaky');
is(join(' ', map { $_->{status} } @flaky), '429 503 503 200', '... until it is taken');
my %keys = map { decode_json($_->{body})->{dedup_key} => 1 } @flaky;
is(scalar(keys %keys), 1, '... with the same key');
cmp_ok($flaky[1]{clock} - $flaky[0]{clock}, '>=', 99, '... and not before the receiver wants it');

# one that cannot be reached, whose host is part of the secret
prepare('unknown', mapping => { alert_url => 'https://secrethost.invalid/hooks' });
shop(q{ALTER USER MAPPING FOR CURRENT_USER SERVER unknown OPTIONS (SET api_key 'mc_test_wrong')});
touch('unknown');
wait_until(q{SELECT error IS NOT NULL FROM contactsync.alerts WHERE server = 'unknown'}, 'a call that fails');
like(sql(q{SELECT error FROM contactsync.alerts WHERE server = 'unknown'}), qr/^no answer: (?!.*secrethost)/, 'a host that cannot be reached is not named');
shop(q{ALTER USER MAPPING FOR CURRENT_USER SERVER unknown OPTIONS (SET api_key 'mc_test_unknown'); CALL contactsync_wait('unknown')});

# a message that nobody answers holds up nobody, and has no transaction open
prepare('stalled');
answers(200, to => 'stalled', times => 5, action => { stall => \1 });
touch('stalled');
shop(q{CALL contactsync_wait('stalled'); ALTER USER MAPPING FOR CURRENT_USER SERVER stalled OPTIONS (SET api_key 'mc_test_wrong')});
touch('stalled');
wait_for('a message that is not answered', sub { (calls('stalled'))[0] });
shop(q{ALTER USER MAPPING FOR CURRENT_USER SERVER stalled OPTIONS (SET api_key 'mc_test_stalled'); CALL contactsync_wait('stalled')});
is((calls('stalled'))[0]{status}, undef, 'delivery goes on while alert_url does not answer');
is(sql(q{SELECT backend_xmin IS NULL AND xact_start IS NULL FROM pg_stat_activity WHERE backend_type = 'contactsync worker'}), 't', '... and no transaction is open');
# the worker ends with the call: it is made again, for the same trouble; which is over
my ($stalled) = map { decode_json($_->{body}) } calls('stalled');
wait_until(q{SELECT ended_at IS NOT NULL FROM contactsync.alerts WHERE server = 'stalled'}, 'the end');
flush_wal($node);
crash_worker($node, 'postgres');
$receiver->clear_faults('mailingcore');
answers(200);
is(told('stalled', 1), 'recovered halted unauthorized', 'after a crash in the middle of a call, the end is told of what may have been told');
is((bodies('stalled'))[0]{dedup_key}, $stalled->{dedup_key}, '... with the same key');

# one that is still going on is told again after a crash, with the same key
prepare('crashed');
answers(200, to => 'crashed', times => 1, action => { stall => \1 });
shop(q{ALTER USER MAPPING FOR CURRENT_USER SERVER crashed OPTIONS (SET api_key 'mc_test_wrong')});
touch('crashed');
wait_for('a message that is not answered', sub { (calls('crashed'))[0] });
crash_worker($node, 'postgres');
is(told('crashed', 1), 'halted unauthorized', 'a message whose call a crash ended is sent again');
my %crashed = map { decode_json($_->{body})->{dedup_key} => 1 } calls('crashed');
is(scalar(keys %crashed), 1, '... with the same key');
$receiver->clear_faults('mailingcore');
answers(200);

# an alert_url that refuses everything is given up, shown, and halts nothing
prepare('refused');
$receiver->clear_faults('mailingcore');
answers(404);
shop(q{ALTER USER MAPPING FOR CURRENT_USER SERVER refused OPTIONS (SET api_key 'mc_test_wrong')});
touch('refused');
wait_until(q{SELECT attempts > 2 AND error = 'HTTP status 404' AND told_at IS NULL FROM contactsync.alerts WHERE server = 'refused'}, 'calls that fail');
shop(q{ALTER USER MAPPING FOR CURRENT_USER SERVER refused OPTIONS (SET api_key 'mc_test_refused'); CALL contactsync_wait('refused')});
wait_until(q{SELECT ended_at IS NOT NULL AND error IS NOT NULL FROM contactsync.alerts WHERE server = 'refused'}, 'the end, which is not taken either');
like(shop(q{SELECT concat_ws('|', state, backlog, reason) FROM contactsync.status WHERE server = 'refused'}), qr/^idle\|0\|alerts: alert_url did not take the last one: HTTP status 404$/,
	'a failing alert_url is shown in contactsync.status, and halts nothing');
sql(q{UPDATE contactsync.alert SET attempts = 7, next_at = now() FROM contactsync.endpoint e WHERE e.id = endpoint AND server = 'refused'});
$node->reload;
wait_until(q{SELECT attempts = 8 AND next_at IS NULL FROM contactsync.alert a JOIN contactsync.endpoint e ON e.id = a.endpoint WHERE server = 'refused'}, 'it to be given up');
my $tries = () = calls('refused');
$receiver->clear_faults('mailingcore');
answers(200);
touch('refused');
shop(q{CALL contactsync_wait('refused')});
is(scalar(() = calls('refused')), $tries, 'after eight tries it is given up');
shop(q{ALTER USER MAPPING FOR CURRENT_USER SERVER refused OPTIONS (SET alert_key 'secretkey2')});
is(told('refused', 1), 'recovered halted unauthorized', 'what was given up is tried again when an option is altered');
wait_until(q{SELECT error IS NULL FROM contactsync.alerts WHERE server = 'refused'}, 'the outcome');
is(shop(q{SELECT reason IS NULL FROM contactsync.status WHERE server = 'refused'}), 't', '... and is not shown any more');

# ---------- the other events ----------

prepare('guarded', provider => 'owlat', server => { bulk_guard => 5, trigger_automations => undef });
shop(q{INSERT INTO guarded SELECT g, format('g%s@example.com', g) FROM generate_series(100, 120) g});
is(told('guarded', 1), 'guarded public.guarded automations', 'a guard is told');
is((bodies('guarded'))[0]{contacts} > 5, 1, '... with the number of contacts');
like((bodies('guarded'))[0]{hint}, qr/contactsync_resume\('public.guarded', 'guarded', automations => 'paused'\)/, '... and what to type');
shop(q{SELECT contactsync_resume('guarded', 'guarded', automations => 'accepted'); CALL contactsync_wait('guarded')});
is(told('guarded', 2), 'guarded public.guarded automations, recovered guarded public.guarded automations', '... and that it was released');

shop(q{CREATE FUNCTION address(text) RETURNS text LANGUAGE sql AS 'SELECT $1'});
prepare('broken', watch => '{"email": "public.address(email)"}');
shop(q{DROP FUNCTION address});
touch('broken');
is(told('broken', 1), 'broken public.broken', 'a broken watch is told');
shop(q{CREATE FUNCTION address(text) RETURNS text LANGUAGE sql AS 'SELECT $1'; SELECT contactsync_alter_watch('broken', 'broken', mapping => '{"email": "public.address(email)"}'); CALL contactsync_wait('broken')});
is(told('broken', 2), 'broken public.broken, recovered broken public.broken', '... and that it works again');

prepare('breaker', server => { refusal_guard => 2 });
$sandbox->fault('mailingcore', { match => { account => 'breaker' }, times => undef, action => { status => 422, body => { error => 'Person jane.doe@example.com is strange', code => 'STRANGE' } } });
shop(q{UPDATE breaker SET email = 'y' || email; INSERT INTO breaker SELECT g, format('b%s@example.com', g) FROM generate_series(10, 15) g});
is(told('breaker', 1), 'breaker refused_alike', 'refusals of everybody are told');
$sandbox->clear_faults('mailingcore');
shop(q{SELECT contactsync_resume('breaker'); CALL contactsync_wait('breaker')});
is(told('breaker', 2), 'breaker refused_alike, recovered breaker refused_alike', '... and their end');

# many failures within an hour, and old changes; looked at once a minute, and when something is altered
prepare('failing', server => { alert_failures => 3 });
shop(q{INSERT INTO failing SELECT g, 'nobody' FROM generate_series(10, 12) g; CALL contactsync_wait('failing')});
$node->reload;
is(told('failing', 1), 'failures', 'many failures are told');
is((bodies('failing'))[0]{contacts}, 3, '... with their number');
like((bodies('failing'))[0]{hint}, qr/contactsync\.failures/, '... and where they are');
sql(q{UPDATE contactsync.minute SET at = at - interval '2 hours' FROM contactsync.endpoint e WHERE e.id = endpoint AND server = 'failing'});
$node->reload;
is(told('failing', 2), 'failures, recovered failures', '... and that there were no more for an hour');

prepare('late', server => { alert_backlog_age => '1s' });
$sandbox->fault('mailingcore', { match => { account => 'late' }, times => undef, action => { status => 503 } });
touch('late');
wait_until(q{SELECT oldest > '2 s' FROM contactsync.status WHERE server = 'late'}, 'an old change');
$node->reload;
is(told('late', 1), 'backlog', 'a change that waits for long is told');
is(join(' ', @{ (bodies('late'))[0] }{qw(contacts backlog)}), '1 1', '... with the number of contacts that wait');
is(sql(q{SELECT bool_or(oldest > interval '1 s') FROM contactsync.history WHERE server = 'late'}), 't', 'the history has the age of the oldest change');
$sandbox->clear_faults('mailingcore');
shop(q{CALL contactsync_wait('late')});
$node->reload;
is(told('late', 2), 'backlog, recovered backlog', '... and that it was sent');
# what is paused is meant to wait
shop(q{SELECT contactsync_pause('late')});
touch('late');
wait_until(q{SELECT oldest > '2 s' FROM contactsync.status WHERE server = 'late'}, 'an old change');
$node->reload;
wait_until(q{SELECT bool_or(backlog = 1 AND oldest IS NULL) FROM contactsync.history WHERE server = 'late'}, 'the backlog to be looked at');
is(scalar(bodies('late')), 2, 'what is paused is not told');

# ---------- formats ----------

foreach my $format (qw(teams pagerduty))
{
	prepare($format, server => { alert_format => $format });
	shop(qq{ALTER USER MAPPING FOR CURRENT_USER SERVER $format OPTIONS (SET api_key 'mc_test_wrong')});
	touch($format);
	told($format, 1);
	my ($body) = bodies($format);
	my %of = map { lc $_->[0] => $_->[1] } @{ (calls($format))[0]{headers} };
	if ($format eq 'teams')
	{
		is($body->{attachments}[0]{contentType}, 'application/vnd.microsoft.card.adaptive', 'Teams gets a card');
		like($body->{attachments}[0]{content}{body}[0]{text}, qr/Server "teams" is halted/, '... with the sentence');
		is($of{authorization}, 'Bearer sha256:' . substr(sha256_hex('secretkey'), 0, 12), '... and the secret in the header');
		next;
	}
	is(join(' ', @{$body}{qw(routing_key event_action)}, @{ $body->{payload} }{qw(severity component class)}), 'secretkey trigger critical pagerduty halted', 'PagerDuty gets an event');
	is($body->{payload}{custom_details}{reason}, 'unauthorized', '... with the details');
	is($of{authorization}, undef, '... and the secret nowhere else');
	shop(qq{ALTER USER MAPPING FOR CURRENT_USER SERVER $format OPTIONS (SET api_key 'mc_test_$format'); CALL contactsync_wait('$format')});
	told($format, 2);
	is(join(' ', map { "$_->{event_action} " . ($_->{dedup_key} eq $body->{dedup_key}) } bodies($format)), 'trigger 1 resolve 1', '... and its end resolves it');
}

# ---------- hostile names, and names that are addresses ----------

create_server($node, $sandbox, 'mailingcore', account => 'odd', name => '<!channel> [x](http://evil)', role => 'shop', server => { alert_url => $receiver->url . '/mailingcore/hooks/odd-x', pace => 1000 });
shop(q{CREATE FUNCTION odd(text) RETURNS text LANGUAGE sql AS 'SELECT $1'; CREATE TABLE "jane.doe@example.com" (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('"jane.doe@example.com"', '<!channel> [x](http://evil)', '{"email": "public.odd(email)"}'); DROP FUNCTION odd;
	INSERT INTO "jane.doe@example.com" VALUES (1, 'john@example.com')});
is(told('odd', 1), 'broken public."(address)"', 'a name that looks like an address is not told');
my ($odd) = bodies('odd');
is($odd->{server}, '<!channel> [x](http://evil)', 'other names are told as they are');
like($odd->{text}, qr{for server "\?\?channel\? \?x\?\?http://evil\?" is broken}, '... but without markup in the sentence');

# ---------- the server's alert_url, when the user mapping is gone ----------

prepare('unmapped', server => { alert_url => $receiver->url . '/mailingcore/hooks/unmapped-public' });
shop(q{DROP USER MAPPING FOR CURRENT_USER SERVER unmapped});
touch('unmapped');
is(told('unmapped', 1), 'halted configuration', 'a missing user mapping is told to the alert_url of the server');
is(join(' ', map { $_->{path} } calls('unmapped')), '/hooks/unmapped-public', '... which is used only then');
ok(!grep({ lc $_->[0] eq 'authorization' } @{ (calls('unmapped'))[0]{headers} }), '... without a secret');

# ---------- TLS ----------

my $secure = start_sandbox(tls => 1, clock_speed => $speed);
$secure->fault('mailingcore', { match => {}, times => undef, action => { status => 200 } });
prepare('tls', mapping => { alert_url => $secure->url . '/mailingcore/hooks/tls-secretpath' });
shop(q{ALTER USER MAPPING FOR CURRENT_USER SERVER tls OPTIONS (SET api_key 'mc_test_wrong')});
touch('tls');
wait_until(q{SELECT error LIKE 'no answer: invalid certificate: %' FROM contactsync.alerts WHERE server = 'tls'}, 'an error of TLS');
is($secure->count('mailingcore')->{requests}, 0, 'nothing is told to a receiver whose certificate is not trusted');
sql(qq{ALTER SERVER tls OPTIONS (ADD alert_ca_file '$secure->{certificate}')});
wait_for('a message over TLS', sub { $secure->count('mailingcore')->{requests} > 0 });
is(decode_json($secure->journal('mailingcore')->[0]{body})->{event}, 'halted', 'alert_ca_file names whom to trust');

# ---------- where it may be ----------

# the server is a superuser's, which may connect to any address; its alert_url is a role's
create_server($node, $sandbox, 'mailingcore', account => 'inside', server => { pace => 1000 });
sql(q{GRANT USAGE ON FOREIGN SERVER inside TO shop; ALTER SYSTEM SET contactsync.allowed_networks = ''; SELECT pg_reload_conf()});
shop("CREATE USER MAPPING FOR CURRENT_USER SERVER inside OPTIONS (api_key 'mc_test_wrong', alert_url '@{[ $receiver->url ]}/mailingcore/hooks/inside-x');"
	. q{SELECT contactsync_upsert('inside', '{"email": "jane@example.com"}')});
wait_until(q{SELECT error LIKE '%alert_url has an address that is not public, and not in contactsync.allowed_networks: 127.0.0.1/32' FROM contactsync.alerts WHERE server = 'inside'}, 'a refusal to connect');
is(scalar(calls('inside')), 0, 'an alert_url in the user mapping of a role leads to no address that the role may not connect to');
sql(q{ALTER SYSTEM RESET contactsync.allowed_networks; SELECT pg_reload_conf()});

# ---------- without a worker ----------

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
prepare('foreground');
shop(q{ALTER USER MAPPING FOR CURRENT_USER SERVER foreground OPTIONS (SET api_key 'mc_test_wrong')});
$node->stop;
$node->start;
touch('foreground');
$node->psql('postgres', q{SET SESSION AUTHORIZATION shop; CALL contactsync_run('foreground')});
is(told('foreground', 1), 'halted unauthorized', 'contactsync_run() tells, too');
$node->psql('postgres', q{SET SESSION AUTHORIZATION shop; CALL contactsync_run('foreground')});
is(scalar(bodies('foreground')), 1, '... once');
shop(q{ALTER USER MAPPING FOR CURRENT_USER SERVER foreground OPTIONS (SET api_key 'mc_test_foreground'); CALL contactsync_run('foreground')});
is(told('foreground', 2), 'halted unauthorized, recovered halted unauthorized', '... and its end, before it returns');

# ---------- the documentation ----------

my ($documented) = PostgreSQL::Test::Utils::slurp_file('docs/monitoring.md') =~ /^## Alerts\n(.*?)^## /ms;
my @blocks = $documented =~ /^```sql\n(.*?)^```$/gms;
is(scalar @blocks, 2, 'there are examples');
create_server($node, $sandbox, 'mailingcore', account => 'mail', role => 'shop');
foreach my $block (@blocks)
{
	my ($ret2, $out2, $err2) = $node->psql('postgres', "SET SESSION AUTHORIZATION shop; $block");
	is($err2, '', 'an example of the documentation runs: ' . substr($block, 0, 60));
}
my ($message) = $documented =~ /^```json\n(.*?)^```$/ms;
my ($example) = map { decode_json($_) } $message =~ s/…/.../gr;
is(join(' ', sort keys %$example), join(' ', grep { $_ ne 'contacts' } sort keys %$halted, exists $halted->{backlog} ? () : 'backlog'), 'the example of a message has its fields');
shop(q{DROP USER MAPPING FOR CURRENT_USER SERVER mail; DROP SERVER mail});

# ---------- what nobody is told ----------

my $all = join "\n", map { $_->{body} } @{ $receiver->journal('mailingcore') };
cmp_ok(length $all, '>', 10000, 'many messages were sent');
unlike($all, qr/example\.com|mc_test_/, 'no message contains an address or a key of the provider');
unlike($all =~ s/"routing_key":"secretkey"//gr, qr/secretkey|secretpath|secrethost/, 'no message contains a secret of alert_url');
my $views = join "\n", map { $node->safe_psql('postgres', "SELECT t::text FROM $_ t") }
  split /\n/, sql(q{SELECT format('contactsync.%I', relname) FROM pg_class WHERE relnamespace = 'contactsync'::regnamespace AND relkind IN ('r', 'v')});
unlike($views, qr/secretkey|secretpath|secrethost/, 'no table or view contains one');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/secretkey|secretpath|secrethost/, 'the log contains none');
sql('CREATE ROLE stranger; CREATE ROLE monitor; GRANT pg_monitor TO monitor');
is(sql('SET ROLE stranger; SELECT count(*) FROM contactsync.alerts'), 0, 'a role sees its own alerts');
is(sql('SET ROLE monitor; SELECT count(*) > 10, count(error) FROM contactsync.alerts'), 't|0', 'a member of pg_monitor sees those of all, without errors');

$node->stop;
done_testing();
