# docs/operating.md: create each of its situations, and run its commands, statement by statement.

use strict;
use warnings;

use ContactSync;
use FindBin;
use Test::More;

my $speed = 20;
my $sandbox = start_sandbox(clock_speed => $speed);
# each situation has a database, and each database a worker
my $node = start_node(max_worker_processes => 32, 'contactsync.clock_speed' => $speed, 'contactsync.probe_interval' => '1d');

my $text = PostgreSQL::Test::Utils::slurp_file("$FindBin::RealBin/../../docs/operating.md");
my (undef, @sections) = split /^## (.+)\n/m, $text;
my %blocks;

# the situations, with the commands for each
while (my ($title, $body) = splice @sections, 0, 2)
{
	$blocks{$title} = [ $body =~ /^```sql\n(.*?)^```$/gms ];
}

# The database of a situation, and the account at the provider, which has the same name.
my $db;

sub sql { return $node->safe_psql($db, $_[0]); }
sub wait_until { my ($sql, $what) = @_; $node->poll_query_until($db, $sql) or die "timed out waiting for $what"; return; }
sub wait_for_state { my ($state) = @_; wait_until("SELECT bool_and(state = '$state') FROM contactsync.status", $state); return; }

# Create a database with the server mail and, unless there is no mapping, the table of the document.
sub prepare
{
	my ($name, $provider, $mapping, %server) = @_;

	$db = $name;
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	create_server($node, $sandbox, $provider, account => $name, name => 'mail', dbname => $db, server => \%server);
	sql(q{CREATE TABLE customers (id bigint PRIMARY KEY, email_address text, first_name text, plan text);
		INSERT INTO customers SELECT g, format('c%s@example.com', g), 'Name ' || g, 'free' FROM generate_series(2, 20) g;
		INSERT INTO customers VALUES (1, 'jane@example.com', 'Jane', 'free');});
	sql(qq{SELECT contactsync_watch('customers', 'mail', '$mapping')});
	return;
}

my $mapping = '{"email": "email_address", "external_id": "id", "attributes": {"firstName": "first_name", "plan": "plan"}}';

sub prepare_sent
{
	my ($name, %server) = @_;

	prepare($name, 'mailingcore', $mapping, %server);
	sql(q{SELECT contactsync_import('customers', 'mail'); CALL contactsync_wait('mail')});
	return;
}

# The contacts at MailingCore, as "id plan" in the order of ids, and the rows of the table.
sub remote
{
	return join ',', map { "$_->[0] $_->[1]" } sort { $a->[0] <=> $b->[0] }
		map { [ $_->{externalId}, $_->{attributes}{plan} // '' ] } @{ $sandbox->contacts('mailingcore', account => $db) };
}
sub consents { return scalar grep { $_->{optIn} } @{ $sandbox->contacts('mailingcore', account => $db) }; }
sub local_rows { return sql(q{SELECT string_agg(id || ' ' || plan, ',' ORDER BY id) FROM customers}); }
sub count { my ($provider) = @_; return $sandbox->count($provider // 'mailingcore', account => $db); }

# The blocks of a section: each call runs the next one, as a reader would, and returns its output.
my $section;

sub type
{
	my $block = shift @{ $blocks{$section} } // die "$section: there are no more blocks";
	my ($stdout, $stderr);
	my $code = $node->psql($db, $block, stdout => \$stdout, stderr => \$stderr, on_error_stop => 1);
	my ($first) = $block =~ /^(.{1,60})/;

	is($code, 0, "$first ...") or diag $stderr;
	return $stdout;
}

sub section
{
	my ($title, $code) = @_;

	$section = $title;
	ok($blocks{$title}, "--- $title") or return;
	$code->();
	is(scalar @{ delete $blocks{$title} }, 0, 'all commands of the section were run');
	return;
}

section('Begin with this', sub {
	prepare_sent('well');
	like(type(), qr/^mail\|customers\|idle\|\|[^|]+\|\|0\|0\|running\|$/, 'the server is idle, without a hint');
	is(type(), '', 'alert_url can be set, and there is nothing to tell');
});

section('Nothing happens', sub {
	prepare_sent('nothing');
	sql(q{SELECT contactsync_pause('mail'); UPDATE customers SET plan = 'queued' WHERE id = 1;
		ALTER TABLE customers DISABLE TRIGGER USER;
		UPDATE customers SET plan = 'unnoticed' WHERE id = 2});
	like(type(), qr/^mail\|customers\|paused\|by \w+\|1\|running\|SELECT contactsync_resume\('mail'\);$/, 'status shows who paused it, and the command to run');
	type();
	sql(q{CALL contactsync_wait('mail')});
	like(remote(), qr/^1 queued,2 free,/, 'queued changes are sent, and changes that were not captured are not');
	like(type(), qr/^contactsync_\d+\|D$/m, 'the trigger is disabled');
	like(type(), qr/^idle\|0$/m, 'the queue is empty');
	is(remote(), local_rows(), 'the provider has all rows');
	sql(q{UPDATE customers SET plan = 'live' WHERE id = 3; CALL contactsync_wait('mail')});
	is(remote(), local_rows(), 'later changes arrive, too');
});

section('It is slow', sub {
	prepare_sent('slow', batch_size => 1);
	$sandbox->fault('mailingcore', { match => { account => $db }, times => 3, action => { status => 429, retry_after => 20 } });
	sql(q{SELECT contactsync_stats_reset(); UPDATE customers SET plan = 'new'});
	wait_until(q{SELECT state = 'throttled' AND until > now() FROM contactsync.status}, 'a throttle');
	my $answer = type();
	like($answer, qr/^mail\|throttled\|too many requests.*\|\d{4}-.*\|\d+\|/, 'status shows the throttle, and until when');
	like($answer, qr/^mail\|backlog\|sending\|/m, 'progress shows the backlog');
	like($answer, qr/^429\|\w+\|\d+\|/m, 'the call log shows the recent answers');
	type();
	wait_until(q{SELECT pace <= 2 FROM contactsync.status}, 'the pace');
	type();
	is(sql(q{SELECT srvoptions @> '{pace=2,concurrency=8}' FROM pg_foreign_server}), 't', 'the options are set');
	is(type(), 'idle|0', 'the queue is empty');
	is(remote(), local_rows(), 'the provider has all rows');
	my @at = map { $_->{clock} } @{ $sandbox->journal('mailingcore', account => $db) };
	cmp_ok(($at[-1] - $at[-9]) / 8, '>', 0.4, 'the calls keep to the pace');
	type();
	is(sql(q{SELECT srvoptions @> '{"send_window=22:00-06:00 Europe/Berlin"}' FROM pg_foreign_server}), 't', 'the option is set');
});

section('Contacts are missing at the provider', sub {
	prepare('missing', 'mailingcore', $mapping);
	sql(q{UPDATE customers SET plan = 'pro' WHERE id <= 10; INSERT INTO customers VALUES (99, 'nobody', 'Nobody', 'free'); CALL contactsync_wait('mail')});
	$sandbox->call('DELETE', 'mailingcore/contacts', undef, account => $db, email => $_) foreach map { "c$_\@example.com" } 2, 3, 5;
	my $answer = type();
	like($answer, qr/\|customers\|1\|synced\|/, 'contactsync_find() shows the history of a contact');
	like($answer, qr/^99\|invalid_email\|/m, 'failures shows the failed contact');
	like($answer, qr/^1\|unchanged\|\|\|\n99\|invalid\|.*\n100\|gone\|/m, 'the preview says what is sent of rows');
	$answer = type();
	like($answer, qr/^contacts\|10\|7\|differs\|/m, 'contactsync_verify() counts the missing contacts');
	like($answer, qr/^contact\|$_\|\|differs\|HTTP 404/m, "it has no $_") foreach 2, 3, 5;
	like(type(), qr/^new\|\|10\|10\|/m, 'the dry run counts the rows that were never sent');
	is(count()->{contacts}, 17, 'the import sends them');
	is(type(), 2, 'contactsync_touch() counts the rows');
	is(count()->{contacts}, 19, 'the touched rows are sent');
	$answer = type();
	like($answer, qr/^contacts\|20\|20\|ok$/m, 'the numbers of contacts agree');
	unlike($answer, qr/differs/, 'no contact differs');
	is(remote() . ',99 free', local_rows(), 'the provider has all rows with a valid address');
	sql(q{ALTER TABLE customers ADD newsletter boolean; UPDATE customers SET newsletter = false;
		SELECT contactsync_alter_watch('customers', 'mail', mapping => '{"email": "email_address", "external_id": "id", "opt_in": "newsletter"}');
		SELECT contactsync_reconcile('customers', 'mail'); CALL contactsync_wait('mail');
		UPDATE customers SET newsletter = true WHERE id < 10; CALL contactsync_wait('mail')});
	is(consents(), 9, 'consent was claimed');
	$sandbox->call('DELETE', 'mailingcore/contacts', undef, account => $db, email => $_) foreach map { "c$_\@example.com" } 2 .. 5;
	sql(q{SELECT contactsync_mark_stale('mail'), contactsync_reconcile('customers', 'mail'); CALL contactsync_wait('mail')});
	is(count()->{contacts} . ' ' . consents(), '20 5', 'contacts that were lost come back without consent');
	type();
	is(consents(), 9, 'consent is claimed again');
});

section('Too many failures', sub {
	prepare_sent('failures');
	$sandbox->fault('mailingcore', { match => { account => $db }, times => undef,
		action => { reject_items => { map { $_ => { code => 'blocked', message => 'blocked for now', status => 422 } } 4, 5 } } });
	sql(q{UPDATE customers SET email_address = 'c2@example.com.', plan = 'pro' WHERE id = 2; UPDATE customers SET email_address = 'nobody' WHERE id = 3;
		UPDATE customers SET plan = 'pro' WHERE id IN (4, 5); CALL contactsync_wait('mail')});
	my $answer = type();
	like($answer, qr/^invalid_email\|[^|]*\|\w*\|2\|/m, 'failures are grouped by reason');
	like($answer, qr/^rejected\|[^|]*\|\w*\|2\|.*blocked for now/m, 'the message of the provider is shown');
	like($answer, qr/^\d+\|customers\|$_\|/m, "row $_") foreach 2 .. 5;
	type();
	sql(q{CALL contactsync_wait('mail')});
	is(sql(q{SELECT string_agg(key, ',' ORDER BY key) FROM contactsync.failures}), '3,4,5', 'rows corrected in the table are sent automatically');
	$sandbox->clear_faults('mailingcore', account => $db);
	is(type(), 2, 'contactsync_retry_reason() counts the failures');
	is(sql(q{SELECT string_agg(key, ',' ORDER BY key) FROM contactsync.failures}), '3', 'these failures disappear');
	type();
	is(sql(q{SELECT srvoptions @> '{retry_failures_every=1h}' FROM pg_foreign_server}), 't', 'the option is set');
	is(type(), "1\n0|", 'the last failure is hidden, and there is no hint');
	is(remote(), local_rows(), 'the provider has all valid rows');
});

section('We rotated the key', sub {
	prepare_sent('rotated');
	my ($grant) = values %{ $sandbox->call('GET', "mailingcore/config", undef, account => $db)->{keys} };
	$sandbox->config('mailingcore', { account => $db, keys => { mc_live_new => $grant, "mc_test_$db" => { revoked => \1 } } });
	sql(q{UPDATE customers SET plan = 'late'});
	wait_for_state('halted');
	like(type(), qr/^mail\|customers\|\w+\|halted\|unauthorized: .*\|20$/, 'the old key is refused, and all changes are queued');
	is(type(), 'idle||0', 'the new key takes effect immediately');
	is(remote(), local_rows(), 'all changes arrive');
});

section('We must erase a person', sub {
	prepare_sent('erased');
	# only contactsync_forget() removes the contact before that
	sql(q{SELECT contactsync_alter_watch('customers', 'mail', delete_delay => '1 hour')});
	like(type(), qr/\|mail\|customers\|1\|synced\|/, 'contactsync_find() shows what is stored');
	type();
	my $answer = type();
	is((grep { $_->{email} eq 'jane@example.com' } @{ $sandbox->contacts('mailingcore', account => $db) }), 0, 'the contact is deleted at the provider');
	is(count()->{contacts}, 19, 'all other contacts remain');
	like($answer, qr/^contact\|1$/m, 'contactsync_forget() counts what it erased');
	like($answer, qr/^0$/m, 'contactsync_find() finds nothing');
	type();
	is(sql(q{SELECT on_delete FROM contactsync.watches}), 'ignore', 'the watch is as it was');
	sql(q{DELETE FROM customers WHERE id = 2; CALL contactsync_wait('mail')});
	is(count()->{contacts}, 19, 'and leaves contacts without a row at the provider');
	wait_until(q{SELECT count(*) = 0 FROM contactsync.forgotten}, 'the worker to forget');
	is( sql(q{SELECT count(*) FROM contactsync.contact t WHERE t::text LIKE '%jane@%'}) . sql(q{SELECT count(*) FROM contactsync.call t WHERE t::text LIKE '%jane@%'})
		  . sql(q{SELECT count(*) FROM contactsync.queue t WHERE t::text LIKE '%jane@%'}),
		'000', 'no table mentions the person');
});

section('We restored a backup', sub {
	prepare_sent('original');
	my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';

	$sandbox->fault('mailingcore', { match => { account => $db }, times => undef, action => { status => 503 } });
	sql(q{UPDATE customers SET plan = 'queued' WHERE id = 1});
	$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $db ], 'pg_dump');
	$sandbox->clear_faults('mailingcore', account => $db);
	sql(q{CALL contactsync_wait('mail'); UPDATE customers SET plan = 'newer' WHERE id < 4; CALL contactsync_wait('mail')});
	like(remote(), qr/^1 newer,2 newer,3 newer,4 free/, 'the original continues');
	$node->safe_psql('postgres', "DROP DATABASE $db WITH (FORCE)");
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->command_ok([ 'pg_restore', '-e', '-d', $db, $dump ], 'pg_restore');
	my $requests = count()->{requests};
	like(type(), qr/^mail\|customers\|paused\|this database was restored or copied; .*\|1$/, 'the copy is paused, with its queue');
	is(count()->{requests}, $requests, 'it has sent nothing');
	type();
	sql(q{CALL contactsync_wait('mail')});
	like(remote(), qr/^1 queued,2 newer,3 newer,4 free/, 'after contactsync_resume() it sends the queued changes');
	my $answer = type();
	like($answer, qr/^changed\|\|(\d+)\|\1\|/m, 'the dry run counts the rows to send');
	like($answer, qr/^idle\|0\|0$/m, 'the server is idle after the reconciliation');
	is(remote(), local_rows(), 'the provider has all rows');
});

section('Stop everything now', sub {
	prepare('stopped', 'mailingcore', $mapping);
	sql(q{SELECT contactsync_import('customers', 'mail', rate => 0.1)});
	like(type(), qr/^mail\|customers\|paused\|by \w+\|\d+\|\d+$/m, 'the server is paused');
	wait_until(q{SELECT bool_and(in_flight = 0) FROM contactsync.status}, 'calls in flight to end');
	my $requests = count()->{requests};
	sql(q{UPDATE customers SET plan = 'meanwhile' WHERE id = 20});
	$node->stop;
	$node->start;
	wait_until(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'contactsync worker' AND datname = current_database()}, 'the worker');
	is(type(), 't', 'the import is cancelled');
	is(count()->{requests}, $requests, 'nothing is sent, not even after a restart');
	type();
	sql(q{CALL contactsync_wait('mail')});
	like(remote(), qr/20 meanwhile$/, 'changes made meanwhile are sent');
	cmp_ok(count()->{contacts}, '<', 20, 'the cancelled import sends no more rows');
});

section('An import is held by the guard', sub {
	prepare('guarded', 'caramel', '{"email": "email_address", "first_name": "first_name"}', bulk_guard => 10, pace => 1000, burst => 1000);
	sql(q{UPDATE customers SET first_name = 'New' WHERE id <= 15});
	wait_for_state('guarded');
	like(type(), qr/^mail\|customers\|.+\|15$/m, 'status shows the number of held contacts, and the reason');
	is(count('caramel')->{requests}, 0, 'nothing was sent');
	like(sql(q{SELECT hint FROM contactsync.status}), qr/SELECT contactsync_resume\('customers', 'mail', automations => 'paused'\);/, 'the hint names the same command');
	type();
	is(count('caramel')->{contacts}, 15, 'delivery continues after contactsync_resume()');
	like(type(), qr/^new\|\|5\|5\|/m, 'the dry run counts the rows to import');
	is(count('caramel')->{contacts}, 20, 'the import sends them');
});

section('Many contacts would be removed', sub {
	prepare_sent('removed');
	sql(q{SELECT contactsync_alter_watch('customers', 'mail', on_delete => 'delete', delete_delay => '0');
		CREATE TABLE backup AS SELECT * FROM customers;
		DELETE FROM customers});
	wait_for_state('guarded');
	like(type(), qr/^mail\|customers\|removals: 20 contacts .* 0 would stay\. The first are [^|]+\|.*removals => 'kept'/, 'status names the first contacts');
	is(count()->{contacts}, 20, 'nothing was removed');
	sql(q{INSERT INTO customers SELECT * FROM backup});
	type();
	is(count()->{contacts}, 20, 'the contacts are kept');
	is(remote(), local_rows(), 'the provider has all rows');
	sql(q{DELETE FROM customers});
	wait_for_state('guarded');
	type();
	wait_until(q{SELECT count(*) = 0 FROM contactsync.departure}, 'the removals');
	is(count()->{contacts}, 0, 'the contacts are removed');
	type();
	is(sql(q{SELECT delete_guard, delete_delay FROM contactsync.watch}), '5%|01:00:00', 'the options are set');
});

section('People opted out at the provider', sub {
	prepare('outs', 'mailingcore', $mapping);
	sql(q{ALTER TABLE customers ADD newsletter boolean NOT NULL DEFAULT true;
		SELECT contactsync_alter_watch('customers', 'mail', mapping => '{"email": "email_address", "external_id": "id", "opt_in": "newsletter"}');
		SELECT contactsync_import('customers', 'mail'); CALL contactsync_wait('mail')});
	is((grep { $_->{optIn} } @{ $sandbox->contacts('mailingcore', account => $db) }), 20, 'consent of people who are new is claimed');
	$sandbox->call('POST', 'mailingcore/contacts', { account => $db, contacts => [ { email => 'jane@example.com', optIn => JSON::PP::false } ] });
	like(type(), qr/^mail\|customers\|1\|jane\@example\.com$/m, 'the opt-out is listed');
	type();
	is(sql(q{SELECT string_agg(id::text, ' ') FROM customers WHERE NOT newsletter}), '1', 'the column says so');
	is((grep { $_->{optIn} } @{ $sandbox->contacts('mailingcore', account => $db) }), 19, 'the person stays opted out');
});

section('The table changes', sub {
	prepare_sent('changed');
	sql(q{ALTER TABLE customers DROP COLUMN plan; UPDATE customers SET first_name = 'Meanwhile' WHERE id = 1});
	wait_for_state('broken');
	like(sql(q{SELECT hint FROM contactsync.status}), qr/SELECT contactsync_alter_watch\('customers', 'mail', mapping => '\.\.\.'\)/, 'the hint names the same command');
	my $answer = type();
	like($answer, qr/^mail\|customers\|column "plan" does not exist\|1$/m, 'status shows the reason, and changes are queued');
	like($answer, qr/^\{.*"plan": "plan"/m, 'the old mapping is shown');
	$answer = type();
	like($answer, qr/^20$/m, 'contactsync_alter_watch() returns the number of differing contacts');
	like($answer, qr/^idle\|\|0$/m, 'the server is idle');
	is(join(',', sort map { $_->{attributes}{firstName} } @{ $sandbox->contacts('mailingcore', account => $db) }),
		sql(q{SELECT string_agg(upper(first_name), ',' ORDER BY upper(first_name) COLLATE "C") FROM customers}), 'and the provider has it');
});

section('We publish our tables', sub {
	prepare_sent('published');
	type();
	is(type(), '', 'the tables of the extension are not published');
	sql(q{CREATE PUBLICATION everything FOR ALL TABLES});
	like(sql(q{SELECT string_agg(tablename, ' ') FROM pg_publication_tables WHERE schemaname = 'contactsync' AND pubname = 'everything'}), qr/queue/, 'FOR ALL TABLES includes them');
	sql(q{UPDATE customers SET plan = 'pro' WHERE id = 1; CALL contactsync_wait('mail')});
	is(remote(), local_rows(), 'changes are delivered even then');
});

# no older version has been released: use tables of the library's version, labelled as older
section('Update the extension', sub {
	prepare_sent('updated');
	is(sql(q{SELECT count(*) FROM pg_extension_update_paths('contactsync') WHERE path IS NOT NULL}),
		'0', 'there is no older version; once there is one, this section must start with it');
	my $version = sql(q{SELECT extversion FROM pg_extension WHERE extname = 'contactsync'});
	my $requests = count()->{requests};
	sql(q{UPDATE pg_extension SET extversion = 'older' WHERE extname = 'contactsync'});
	$node->stop;
	$node->start;
	sql(q{UPDATE customers SET plan = 'pro' WHERE id = 1});
	wait_until(q{SELECT worker LIKE 'waiting for%' FROM contactsync.status}, 'the worker');
	is(type(), "older|$version\nwaiting for ALTER EXTENSION contactsync UPDATE", 'the installed version, and what the worker waits for');
	is(count()->{requests}, $requests, 'nothing is sent before the update');
	is(shift @{ $blocks{$section} }, "ALTER EXTENSION contactsync UPDATE;\n", 'the command to run');
	sql(qq{UPDATE pg_extension SET extversion = '$version' WHERE extname = 'contactsync'; SELECT contactsync.launch()});
	is(type(), 'running|idle|0', 'the server is idle after the update');
	is(remote(), local_rows(), 'captured changes are sent');
});

is(join(', ', sort keys %blocks), '', 'the test covers all sections');
$node->stop;
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/PANIC|terminated by signal/, 'the log contains no crash');
done_testing();
