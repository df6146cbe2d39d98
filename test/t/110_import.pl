# Walks over whole tables: they go on after a crash where they were, give way to live changes, keep to a pace, send what
# differs and nothing else, begin by themselves, and stop where they could set off mail to people.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $speed = 10;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('restart_after_crash' => 'on', 'contactsync.clock_speed' => $speed);

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub wait_until { my ($sql, $what) = @_; $node->poll_query_until('postgres', $sql) or die "timed out waiting for $what"; return; }

sub stderr_of
{
	my ($sql) = @_;
	my $stderr;

	$node->psql('postgres', $sql, stderr => \$stderr);
	return $stderr;
}

# What a provider has, as "id plan" in the order of ids.
sub remote
{
	my ($account) = @_;

	return join(',', map { "$_->[0] $_->[1]" } sort { $a->[0] <=> $b->[0] }
		map { [ $_->{externalId}, $_->{attributes}{plan} ] } @{ $sandbox->contacts('mailingcore', account => $account) });
}

sub prepare
{
	my ($name, $rows, %server) = @_;

	create_server($node, $sandbox, 'mailingcore', account => $name, server => { pace => 1000, burst => 1000, %server });
	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, plan text DEFAULT 'A');
		INSERT INTO $name SELECT g, format('$name%s\@example.com', g) FROM generate_series(1, $rows) g});
	return;
}

sub watch
{
	my ($name, $more) = @_;

	sql(qq{SELECT contactsync_watch('$name', '$name', '{"email": "email", "external_id": "id", "attributes": {"plan": "plan"}}' @{[ $more // '' ]})});
	return;
}

sub expected { my ($name) = @_; return sql(qq{SELECT string_agg(id || ' ' || plan, ',' ORDER BY id) FROM $name}); }
sub requests { my ($name) = @_; return $sandbox->count('mailingcore', account => $name)->{requests}; }
sub done { my ($name) = @_; return sql(qq{SELECT done FROM contactsync.scan s JOIN contactsync.endpoint e ON e.id = s.endpoint WHERE e.server = '$name' AND kind <> 'poll' ORDER BY s.id DESC LIMIT 1}); }

# ---------- crashes ----------

# slow enough that the worker is met in the middle of it: a call takes 0.02 s, and carries 10
prepare('crash', 1500, batch_size => 10, concurrency => 1);
watch('crash');
is(sql('SELECT count(*) FROM contactsync.changes'), '0', 'what was there before a watch is not sent by itself');
$sandbox->fault('mailingcore', { match => { account => 'crash' }, action => { latency => 0.02 } });
sql(q{SELECT contactsync_import('crash', 'crash')});
my @done;
foreach my $crash (1 .. 3)
{
	my $from = $crash * 300;
	wait_until("SELECT done >= $from FROM contactsync.scan", "row $from");
	push @done, done('crash');
	if ($crash < 3)
	{
		kill 'KILL', sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'});
		wait_until('SELECT true', 'the server to be back');
	}
	else
	{
		$node->stop('immediate');
		$node->start;
	}
	cmp_ok(done('crash'), '>=', $done[-1] - 40, "after crash $crash it is where it was, but for what was not on disk");
}
sql(q{CALL contactsync_wait('crash')});
is(remote('crash'), expected('crash'), 'all rows have arrived');
is(sql(q{SELECT state, phase, done, total, percent, new, unchanged FROM contactsync.progress}), 'done|comparing|1500|1500|100.0|1500|0', 'as progress says');
cmp_ok(requests('crash'), '<', 150 + 30, 'and nearly all of them once');
is(sql(q{SELECT failures, backlog, state FROM contactsync.status WHERE server = 'crash'}), '0|0|idle', 'none failed');
$sandbox->clear_faults('mailingcore');

# ---------- what differs, and nothing else ----------

my $before = requests('crash');
sql(q{SELECT contactsync_reconcile('crash', 'crash'); CALL contactsync_wait('crash')});
is(sql(q{SELECT state, new, changed, unchanged FROM contactsync.progress WHERE kind = 'reconcile'}), 'done|0|0|1500', 'a reconciliation finds nothing');
is(requests('crash'), $before, 'and sends nothing');

sql(q{
	ALTER TABLE crash DISABLE TRIGGER USER;
	UPDATE crash SET plan = 'B' WHERE id % 100 = 7;
	INSERT INTO crash VALUES (2000, 'new@example.com');
	ALTER TABLE crash ENABLE TRIGGER USER;
	SELECT contactsync_reconcile('crash', 'crash'); CALL contactsync_wait('crash')});
is(sql(q{SELECT state, new, changed, unchanged FROM contactsync.progress WHERE kind = 'reconcile'}), 'done|1|15|1485', 'one after changes that were not noticed does');
is(remote('crash'), expected('crash'), 'and sends them');

# rows that have gone, unnoticed; and one whose address another row has now is sent as that
prepare('gone', 500);
watch('gone', q{, filter => 'plan <> ''X''', on_delete => 'delete'});
sql(q{SELECT contactsync_import('gone', 'gone'); CALL contactsync_wait('gone')});
sql(q{
	ALTER TABLE gone DISABLE TRIGGER USER;
	DELETE FROM gone WHERE id BETWEEN 101 AND 150;
	UPDATE gone SET plan = 'X' WHERE id = 200;
	UPDATE gone SET plan = 'C' WHERE id = 201;
	ALTER TABLE gone ENABLE TRIGGER USER;
	SELECT contactsync_reconcile('gone', 'gone'); CALL contactsync_wait('gone')});
is(sql(q{SELECT state, new, changed, unchanged, filtered, gone FROM contactsync.progress WHERE server = 'gone' AND kind = 'reconcile'}),
	'done|0|1|448|1|51', 'a reconciliation finds what has gone');
is(remote('gone'), sql(q{SELECT string_agg(id || ' ' || plan, ',' ORDER BY id) FROM gone WHERE plan <> 'X'}), 'which follows on_delete');

# ---------- what was refused ----------

prepare('refused', 20);
watch('refused');
$sandbox->fault('mailingcore', { match => { account => 'refused', key => "refused$_\@example.com" }, times => undef, action => { status => 422 } }) foreach 3, 4;
sql(q{UPDATE refused SET email = 'nobody' WHERE id = 5; SELECT contactsync_import('refused', 'refused'); CALL contactsync_wait('refused')});
my $failures = q{SELECT string_agg(concat_ws(' ', key, reason, attempts), ',' ORDER BY key) FROM contactsync.failures WHERE server = 'refused'};
is(sql($failures), '3 rejected 1,4 rejected 1,5 invalid_email 1', 'what is refused is a failure');
$before = requests('refused');
sql(q{SELECT contactsync_reconcile('refused', 'refused'); CALL contactsync_wait('refused')});
is(sql(q{SELECT unchanged, refused, invalid FROM contactsync.progress WHERE server = 'refused' AND kind = 'reconcile'}), '17|2|1', 'a reconciliation sees that it is as it was');
is(requests('refused'), $before, 'and does not try it again');
is(sql($failures), '3 rejected 1,4 rejected 1,5 invalid_email 1', 'nor count it');
sql(q{ALTER TABLE refused DISABLE TRIGGER USER; UPDATE refused SET plan = 'B' WHERE id = 3; SELECT contactsync_reconcile('refused', 'refused'); CALL contactsync_wait('refused')});
like(sql($failures), qr/^3 rejected [2-9],4 rejected 1,/, 'but does when it has changed');

# ---------- live before bulk ----------

# five a second on its clock, one contact a call: 400 rows take 80 s
prepare('busy', 400, pace => 5, burst => 1, batch_size => 1, concurrency => 2);
watch('busy');
sql(q{SELECT contactsync_import('busy', 'busy')});
$sandbox->wait_for_contacts('mailingcore', 5, account => 'busy');
cmp_ok(sql(q{SELECT COALESCE(sum(n), 0) FROM contactsync.queue}), '<=', 4, 'a scan does not fill the queue');
sql(q{INSERT INTO busy SELECT g, format('live%s@example.com', g) FROM generate_series(1001, 1010) g});
wait_for('live changes',
	sub { 10 == grep { $_->{externalId} > 1000 } @{ $sandbox->contacts('mailingcore', account => 'busy') } });
my @ids = map { $_->{externalId} } @{ $sandbox->contacts('mailingcore', account => 'busy') };
cmp_ok(scalar(@ids), '<', 60, 'live changes come first, with ' . (@ids - 10) . ' rows of the import done');
is(sql(q{SELECT state FROM contactsync.progress WHERE server = 'busy' AND kind = 'import'}), 'running', 'which goes on');
like(sql(q{SELECT done || '/' || total || ' ' || percent || ' ' || (rate > 0) || ' ' || (eta > now()) FROM contactsync.progress WHERE server = 'busy' AND kind = 'import'}),
	qr{^\d+/40\d \d+\.\d true true$}, 'and progress says how far it is');
like(stderr_of(q{SELECT contactsync_import('busy', 'busy')}), qr/ERROR: +table "busy" is being imported or reconciled already/, 'a second one is refused meanwhile');
like(stderr_of(q{CALL contactsync_wait('busy', '1.5 s')}), qr{NOTICE: +\d+/\d+ +\d+ % +[\d.]+/s +ETA}, 'waiting tells of it too');
is(sql(q{SELECT contactsync_cancel('busy', 'busy')}), 't', 'it can be ended');
sql(q{CALL contactsync_wait('busy')});
my $left = $sandbox->count('mailingcore', account => 'busy')->{contacts};
cmp_ok($left, '<', 400, 'before its end');
is(sql(q{SELECT state FROM contactsync.progress WHERE server = 'busy' AND kind = 'import'}), 'canceled', 'as progress says');

# as slow as one wants it: 10 a second on its clock
prepare('slowly', 31);
watch('slowly');
sql(q{SELECT contactsync_import('slowly', 'slowly', rate => 10, filter => 'id > 0'); CALL contactsync_wait('slowly')});
is(remote('slowly'), expected('slowly'), 'an import with a rate sends all');
my @calls = @{ $sandbox->journal('mailingcore', account => 'slowly') };
cmp_ok(scalar(@calls), '>', 3, 'in more than one call');
my $span = $calls[-1]{clock} - $calls[0]{clock};
cmp_ok($span, '>=', 1.9, "and takes its time ($span s)");

# ---------- by itself ----------

prepare('nightly', 10);
watch('nightly', q{, reconcile_every => '30 s'});
is(sql(q{SELECT reconcile_every, reconcile_next > now() FROM contactsync.watches WHERE server = 'nightly'}), '00:00:30|t', 'a watch can be told to reconcile by itself');
$sandbox->wait_for_contacts('mailingcore', 10, account => 'nightly');
sql(q{ALTER TABLE nightly DISABLE TRIGGER USER; UPDATE nightly SET plan = 'Z'});
wait_for('the next time', sub { remote('nightly') eq expected('nightly') });
ok(1, 'which it does, and again');
is(sql(q{SELECT count(*) FROM contactsync.scan s JOIN contactsync.endpoint e ON e.id = s.endpoint WHERE e.server = 'nightly'}), '1', 'and the last one is remembered');
sql(q{SELECT contactsync_unwatch('nightly', 'nightly')});

# ---------- the guard ----------

create_server($node, $sandbox, 'caramel', account => 'journeys', server => { pace => 1000, burst => 1000, concurrency => 10, bulk_guard => 50 });
sql(q{
	CREATE TABLE people (id int PRIMARY KEY, email text, name text);
	INSERT INTO people SELECT g, format('p%s@example.com', g) FROM generate_series(1, 60) g;
	SELECT contactsync_watch('people', 'journeys', '{"email": "email", "first_name": "name"}', reconcile_every => '1 day', reconcile_at => '03:00')});
like(stderr_of(q{SELECT contactsync_import('people', 'journeys')}), qr/ERROR: +importing table "people" could set off mail to people\nDETAIL: .*journeys.*\nHINT: .*automations => 'paused'/,
	'an import that could start journeys is refused');
is(sql(q{SELECT reconcile_at, reconcile_next::time, reconcile_next > now(), reconcile_next <= now() + interval '1 day' FROM contactsync.watches WHERE server = 'journeys'}),
	'03:00:00|03:00:00|t|t', 'a time of day is kept to');
sql(q{UPDATE people SET name = 'x'});
wait_until(q{SELECT state = 'guarded' FROM contactsync.status WHERE server = 'journeys'}, 'the guard');
like(stderr_of(q{CALL contactsync_wait('journeys')}), qr/ERROR: +server "journeys" cannot go on: .*60 contacts or more would be sent at once/, 'so is a transaction that changes much');
sql(q{UPDATE people SET name = 'y' WHERE id = 1});
$node->stop;
$node->start;
is(sql(q{SELECT state, backlog FROM contactsync.status WHERE server = 'journeys'}), 'guarded|61', 'which a restart does not change');
is($sandbox->count('caramel', account => 'journeys')->{requests}, 0, 'nothing was sent');
sql(q{SELECT contactsync_resume('people', 'journeys', automations => 'paused'); CALL contactsync_wait('journeys')});
is($sandbox->count('caramel', account => 'journeys')->{contacts}, 60, 'until somebody says how to go on');
# many transactions in a short time
sql(join(';', map { "UPDATE people SET name = 'z$_' WHERE id = 1 + $_ % 60" } 1 .. 180));
wait_until(q{SELECT state = 'guarded' FROM contactsync.status WHERE server = 'journeys'}, 'the guard');
cmp_ok($sandbox->count('caramel', account => 'journeys')->{requests}, '<', 61 + 180, 'many transactions are stopped like one');
sql(q{SELECT contactsync_resume('people', 'journeys', automations => 'accepted'); CALL contactsync_wait('journeys')});
is(sql(q{SELECT state, backlog FROM contactsync.status WHERE server = 'journeys'}), 'idle|0', 'and go on');
sql(q{ALTER TABLE people DISABLE TRIGGER USER; UPDATE people SET name = 'reconciled'; SELECT contactsync_reconcile('people', 'journeys')});
wait_until(q{SELECT state = 'guarded' FROM contactsync.status WHERE server = 'journeys'}, 'the guard');
$before = $sandbox->count('caramel', account => 'journeys')->{requests};
sql(q{SELECT contactsync_resume('people', 'journeys', automations => 'paused'); CALL contactsync_wait('journeys')});
is($sandbox->count('caramel', account => 'journeys')->{requests}, $before + 60, 'a reconciliation waits for a word as well, and then goes on');
is(sql(q{SELECT state, changed FROM contactsync.progress WHERE server = 'journeys' AND kind = 'reconcile'}), 'done|60', 'to its end');

$node->stop;
done_testing();
