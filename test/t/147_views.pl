# The views are for people: rows in order, the first columns say most and fit on a screen, times and rates are rounded, and
# each column has a comment.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $width = 160;
my $sandbox = start_sandbox();
my $node = start_node('shared_preload_libraries' => '', 'timezone' => 'Europe/Madrid');

sub sql { return $node->safe_psql('postgres', "SET client_min_messages = error; $_[0]"); }

# Realistic rows: a shop with a newsletter and a webshop, an import that runs, failures, a halt, a removal that waits.
create_server($node, $sandbox, 'mailingcore', account => 'newsletter', server => { pace => 1000, burst => 1000, log_contacts => 'true' });
create_server($node, $sandbox, 'owlat', account => 'webshop', server => { pace => 1000, burst => 1000 });
create_server($node, $sandbox, 'mailingcore', account => 'archive', server => { pace => 1000, burst => 1000 });
sql(q{CREATE SCHEMA shop; CREATE TABLE shop.customers (id bigint PRIMARY KEY, email text, first_name text, newsletter boolean, updated_at timestamptz DEFAULT now());
	CREATE TABLE shop.buyers (id bigint PRIMARY KEY, email text);
	SELECT contactsync_watch('shop.customers', 'newsletter', '{"email": "email", "external_id": "id", "first_name": "first_name", "opt_in": "newsletter"}', filter => 'newsletter', on_delete => 'delete', always => true);
	SELECT contactsync_watch('shop.buyers', 'webshop', '{"email": "email"}');
	SELECT contactsync_watch('shop.customers', 'archive', '{"email": "email", "external_id": "id"}', reconcile_every => '1 day', reconcile_at => '03:00');
	CREATE VIEW shop.recent AS SELECT * FROM shop.customers;
	SELECT contactsync_watch('shop.recent', 'archive', '{"email": "email"}', key => '{id}', capture => 'poll', poll_column => 'updated_at', poll_overlap => '2 min');
	SELECT contactsync_trace('newsletter', 'jane.doe100003@example.com');
	INSERT INTO shop.customers SELECT g, format('jane.doe%s@example.com', g), 'Jane', true FROM generate_series(100001, 100030) g;
	INSERT INTO shop.customers VALUES (100099, 'jane.doe@@example.com', 'Jane', true);
	INSERT INTO shop.buyers VALUES (42, 'john.smith@example.com'), (43, 'john.smith@example.com'), (44, 'nobody');
	SELECT contactsync_upsert('webshop', '{"email": "mary@example.com"}')});
$node->safe_psql('postgres', "CALL contactsync_run('$_')") foreach qw(newsletter webshop archive);
sql(q{UPDATE contactsync.endpoint SET state = 'halted', reason = 'unauthorized: MailingCore does not accept the API key: Invalid API key', since = now() - interval '4 h' WHERE server = 'archive';
	UPDATE shop.customers SET first_name = 'John' WHERE id < 100004;
	UPDATE contactsync.queue SET queued_at = now() - interval '3 h 50 min 1.5 s';
	INSERT INTO contactsync.scan (endpoint, watch, kind, phase, total, done, started_at, updated_at, new, changed, unchanged)
	SELECT endpoint, id, 'import', 'comparing', 1200000, 345678, now() - interval '7 min', now(), 300000, 1234, 44444 FROM contactsync.watch WHERE source = 'shop.buyers'::regclass;
	INSERT INTO contactsync.run (endpoint, watch, kind, state, started_by, outcomes) SELECT endpoint, id, 'import', 'running', 'postgres', '{"new": 300000, "changed": 1234}' FROM contactsync.watch WHERE source = 'shop.buyers'::regclass;
	INSERT INTO contactsync.alert (endpoint, watch, event, reason, told_at) SELECT id, 0, 'halted', 'unauthorized', now() FROM contactsync.endpoint WHERE server = 'archive';
	UPDATE contactsync.contact SET opted_out = true, remote_status = 'unsubscribed', remote_updated_at = now() WHERE upsert_key = '100002';
	INSERT INTO contactsync.remote_contact (endpoint, external_id, email, opt_in, remote_id, locale, updated_at, pulled_at)
	SELECT id, '100002', 'jane.doe100002@example.com', false, 'con_8f7d6a5b4c3d2e1f', 'es-ES', now(), now() FROM contactsync.endpoint WHERE server = 'newsletter';
	UPDATE contactsync.minute SET calls = calls + 1234, synced = synced + 123456, sent = 123456789, received = 23456789});

# What has to be seen of each view without scrolling, in this order; "*" stands for all of it.
my %first = (
	status => [qw(server source state since backlog oldest failures eta reason)],
	progress => [qw(server source kind state phase percent done total rate eta)],
	watches => [qw(server source state key on_delete claims capture always filter)],
	failures => [qw(id server source key reason code field attempts last_at)],
	runs => [qw(id server source kind state started_at finished_at started_by)],
	alerts => [qw(server source event reason contacts began_at ended_at told_at)],
	calls => [qw(id server started_at duration status verdict contacts failed attempt method path)],
	changes => ['*'],
	contacts => [qw(server source key upsert_key action synced_at consent remote_status)],
	duplicates => ['*'],
	opt_outs => ['*'],
	remote_contacts => [qw(server email opt_in external_id updated_at pulled_at locale)],
	outcomes => [qw(at server source key outcome cause fields again reason)],
	traces => [qw(id server source key started_at duration status verdict method)],
	stats => [qw(server since calls synced unchanged failed throttled retries unanswered seconds)],
	latencies => ['*'],
	history => [qw(server at calls synced unchanged failed throttled retries unanswered backlog oldest)]);
is(join(' ', sort keys %first), sql(q{SELECT string_agg(relname, ' ' ORDER BY relname COLLATE "C") FROM pg_class WHERE relnamespace = 'contactsync'::regnamespace AND relkind = 'v'}), 'each view is looked at');

foreach my $view (sort keys %first)
{
	$node->psql('postgres', "SELECT * FROM contactsync.$view", stdout => \my $out, extra_params => [ '-P', 'tuples_only=off', '-P', 'format=aligned', '-P', 'footer=off' ]);
	my ($head, $line, @rows) = split /\n/, $out;
	my @names = map { s/^\s+|\s+$//gr } split /\|/, $head;
	my @shown = grep { $_ ne '' } map { s/^\s+|\s+$//gr } split /\|/, substr($head, 0, $width);
	my @want = $first{$view}[0] eq '*' ? @names : @{ $first{$view} };

	cmp_ok(scalar @rows, '>', 0, "$view: there are rows");
	is(join(' ', @names[ 0 .. $#want ]), "@want", "$view: the first columns say most");
	# the last of these may be a text that is cut off, but one sees 20 characters of it
	my ($before) = $line =~ /^((?:-+\+){@{[ $#want ]}})/;
	my $last = $want[-1] =~ /^(reason|path|filter)$/;
	cmp_ok($last ? length($before) + 20 : length(($line =~ /^((?:-+\+?){@{[ scalar @want ]}})/)[0]), '<=', $width, "$view: ... and fit in $width characters");
}

is(sql(q{SELECT string_agg(format('%s.%s', c.relname, a.attname), ' ' ORDER BY c.relname, a.attnum) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
	WHERE c.relnamespace = 'contactsync'::regnamespace AND c.relkind = 'v' AND a.attnum > 0 AND col_description(c.oid, a.attnum) IS NULL}), '', 'each column has a comment');
is(sql(q{SELECT string_agg(DISTINCT format('%s.%s', c.relname, a.attname), ' ') FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid,
	LATERAL (SELECT query_to_xml(format('SELECT 1 FROM contactsync.%I WHERE extract(microseconds FROM %I)::bigint %% CASE WHEN %L THEN 1000 ELSE 1000000 END <> 0', c.relname, a.attname, c.relname IN ('calls', 'traces')), true, false, '') AS x) q
	WHERE c.relnamespace = 'contactsync'::regnamespace AND c.relkind = 'v' AND a.atttypid IN ('timestamptz'::regtype, 'interval'::regtype) AND a.attname <> 'remote_updated_at' AND q.x::text ~ '<row'}), '', 'times are rounded to seconds, those of calls to milliseconds');
is(sql(q{SELECT string_agg(DISTINCT format('%s.%s', c.relname, a.attname), ' ') FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid,
	LATERAL (SELECT query_to_xml(format('SELECT 1 FROM contactsync.%I WHERE length(%I::text) > 12', c.relname, a.attname), true, false, '') AS x) q
	WHERE c.relnamespace = 'contactsync'::regnamespace AND c.relkind = 'v' AND a.atttypid IN ('float8'::regtype, 'numeric'::regtype) AND q.x::text ~ '<row'}), '', 'numbers are rounded');

# order
is(sql('SELECT state, server FROM contactsync.status') =~ s/\n.*//sr, 'halted|archive', 'status has what needs somebody first');
is(sql("SELECT string_agg(server, ' ') FROM (SELECT DISTINCT ON (server) server FROM contactsync.watches) w"), 'archive newsletter webshop', 'watches are in order');
foreach my $view (qw(failures runs calls traces alerts))
{
	is(sql("SELECT array_agg(id) = array_agg(id ORDER BY id DESC) FROM contactsync.$view"), 't', "$view: the newest come first");
}
is(sql('SELECT array_agg(at) = array_agg(at ORDER BY at DESC) FROM contactsync.history'), 't', 'history: the newest come first');
is(sql('SELECT state FROM contactsync.progress LIMIT 1'), 'running', 'progress: what runs comes first');
# the newest calls are found without sorting all of them
like(sql('SET enable_sort = off; SET enable_seqscan = off; EXPLAIN (COSTS OFF) SELECT * FROM contactsync.calls LIMIT 10'), qr/Index Scan Backward using call_pkey/, 'the newest calls are read by the index');

# names are those of the arguments
my $arguments = sql(q{SELECT string_agg(DISTINCT n, ' ' ORDER BY n) FROM pg_proc p, unnest(proargnames) n WHERE proname = 'contactsync_watch'});
my %columns = map { $_ => 1 } split / /, sql(q{SELECT string_agg(attname, ' ') FROM pg_attribute WHERE attrelid = 'contactsync.watches'::regclass AND attnum > 0});
is(join(' ', grep { !$columns{$_} } split / /, $arguments), '', 'watches has each argument of contactsync_watch()');
is(sql(q{SELECT string_agg(concat_ws(' ', source, capture, always, poll_overlap), ', ') FROM contactsync.watches}),
	'shop.customers trigger false, shop.recent poll false 00:02:00, shop.customers trigger true, shop.buyers trigger false', '... with its value');

# the triggers of a view are on its tables
sql(q{CREATE VIEW shop.plain AS SELECT id, email FROM shop.customers WHERE newsletter;
	SELECT contactsync_watch('shop.plain', 'newsletter', '{"email": "email", "external_id": "id"}', key => '{id}', always => true)});
is(sql(q{SELECT capture, always FROM contactsync.watches WHERE source = 'shop.plain'::regclass}), 'trigger|true', '... also of a view that is watched by the triggers of its tables');
sql(q{SELECT contactsync_alter_watch('shop.plain', 'newsletter', always => false)});
is(sql(q{SELECT capture, always FROM contactsync.watches WHERE source = 'shop.plain'::regclass}), 'trigger|false', '... and when it is altered');

$node->stop;
done_testing();
