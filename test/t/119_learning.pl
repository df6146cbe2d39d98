# While the contacts at MailingCore cannot be listed, or the listing takes long, only those contacts wait whose consent would be
# claimed for an address that nothing is known of. Everything else is sent: fields, withdrawals, words of persons, and removals.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.clock_speed' => 20, 'restart_after_crash' => 'on');

# everything is done by a role that owns nothing but its servers and tables
$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop});

sub sql { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'shop' ]); }
sub admin { return $node->safe_psql('postgres', $_[0]); }
sub lists { my ($name) = @_; return grep { $_->{method} eq 'GET' } @{ $sandbox->journal('mailingcore', account => $name) }; }

# Return what the provider has of an address, as "name in" or "name out"; "-" if it has nothing.
sub at_provider
{
	my ($name, $email) = @_;
	my ($contact) = grep { $_->{email} eq "$email\@example.com" } @{ $sandbox->contacts('mailingcore', account => $name) };
	return $contact ? "$contact->{attributes}{firstName} " . ($contact->{optIn} ? 'in' : 'out') : '-';
}
sub arrives { my ($name, $email, $value) = @_; return wait_for("$email as $value", sub { at_provider($name, $email) eq $value }); }

sub status
{
	my ($name) = @_;
	return sql(qq{SELECT concat_ws('|', state, reason) FROM contactsync.status WHERE server = '$name' AND source IS NOT NULL});
}

# each way in which the listing does not come to its end; with one call at a time, it must not take the place of others
my %fault = (
	failing => { status => 503 },
	stalling => { stall => \1 },
	garbled => { status => 301, headers => { Location => '/' } },
	resetting => { reset => 'before' });

foreach my $name (sort keys %fault)
{
	create_server($node, $sandbox, 'mailingcore', account => $name, role => 'shop', server => { pace => 100, burst => 10, concurrency => 1, bulk_guard => 0 });
	$sandbox->call('POST', 'mailingcore/contacts', { account => $name, contacts => [ { email => 'left@example.com', optIn => \0, attributes => { firstName => 'L' } } ] });
	$sandbox->fault('mailingcore', { match => { account => $name, method => 'GET' }, times => undef, action => $fault{$name} });
	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, first_name text, opt_in boolean);
		SELECT contactsync_watch('$name', '$name', '{"email": "email", "first_name": "first_name", "opt_in": "opt_in"}',
			on_delete => 'unsubscribe', delete_delay => '0');
		INSERT INTO $name VALUES (1, 'word\@example.com', 'W', false), (2, 'plain\@example.com', 'P', NULL), (3, 'gone\@example.com', 'G', NULL);
		CALL contactsync_wait('$name')});
	is(at_provider($name, 'plain'), 'P out', "$name: contacts that claim nothing do not wait");
	is(scalar lists($name), 0, "$name: nor are the contacts listed for them");

	# somebody signs up: is the address new there?
	sql(qq{INSERT INTO $name VALUES (4, 'new\@example.com', 'N', true), (5, 'left\@example.com', 'L2', true), (6, 'changed\@example.com', 'C', true)});
	wait_for('a listing', sub { lists($name) > 0 });
	wait_for("$name: the number of waiting contacts", sub { status($name) =~ /^running\|learning: 3 contacts wait until all contacts at the provider are listed/ });

	# all others are sent
	sql(qq{UPDATE $name SET first_name = 'P2', opt_in = false WHERE id = 2});
	arrives($name, 'plain', 'P2 out');
	sql(qq{UPDATE $name SET opt_in = true WHERE id = 1});
	arrives($name, 'word', 'W in');
	sql(qq{DELETE FROM $name WHERE id = 3; UPDATE $name SET first_name = 'W2', opt_in = false WHERE id = 1});
	arrives($name, 'word', 'W2 out');
	sql(qq{SELECT contactsync_upsert('$name', '{"email": "direct\@example.com", "first_name": "D"}')});
	arrives($name, 'direct', 'D out');
	wait_for('the removal', sub { admin(qq{SELECT count(*) FROM contactsync.contact c JOIN contactsync.endpoint e ON e.id = c.endpoint
		WHERE e.server = '$name' AND c.upsert_key = 'gone\@example.com' AND c.action = 'n'}) });
	pass("$name: fields, withdrawals, words, removals and other contacts are sent meanwhile");
	is(at_provider($name, 'new') . at_provider($name, 'left'), '-L out', "$name: contacts that wait do so as a whole");

	# a second row of a contact that waits does not create it; a withdrawal does not wait
	sql(qq{INSERT INTO $name VALUES (7, 'new\@example.com', 'N2', NULL)});
	sql(qq{UPDATE $name SET opt_in = false WHERE id = 6});
	arrives($name, 'changed', 'C out');
	is(at_provider($name, 'new'), '-', "$name: a second row waits with the first");
	unlike(status($name), qr/^unavailable|^halted/, "$name: calls are not stopped");
	if ($name ne 'stalling')
	{
		my $before = lists($name);
		wait_for('more tries', sub { lists($name) >= $before + 2 });
		like(status($name), qr/learning: \d+ contacts wait .*; the last request failed: \S/, "$name: status says that it fails");
	}

	$sandbox->clear_faults('mailingcore');
	sql(qq{CALL contactsync_wait('$name')});
	is(at_provider($name, 'new'), 'N2 in', "$name: when they are listed, an address that is not there is claimed, and the last row speaks");
	is(at_provider($name, 'left'), 'L2 out', "$name: one that is there is not");
	like(status($name), qr/^(idle|running)$/, "$name: all is well then");
	is(admin(qq{SELECT count(*) FROM contactsync.queue q JOIN contactsync.endpoint e ON e.id = q.endpoint WHERE e.server = '$name'}), '0', "$name: nothing is left in the queue");
}

# more contacts than there is room for in memory
admin(q{ALTER SYSTEM SET contactsync.max_pending = 1000; SELECT pg_reload_conf()});
create_server($node, $sandbox, 'mailingcore', account => 'many', role => 'shop', server => { pace => 1000, burst => 100, bulk_guard => 0 });
$sandbox->fault('mailingcore', { match => { account => 'many', method => 'GET' }, times => undef, action => { status => 500 } });
sql(q{
	CREATE TABLE many (id int PRIMARY KEY, email text, first_name text, opt_in boolean);
	SELECT contactsync_watch('many', 'many', '{"email": "email", "first_name": "first_name", "opt_in": "opt_in"}');
	INSERT INTO many VALUES (0, 'zero@example.com', 'Z', false);
	CALL contactsync_wait('many');
	INSERT INTO many SELECT i, format('m%s@example.com', i), 'M', i % 2 = 0 FROM generate_series(1, 6000) i;
	UPDATE many SET first_name = 'Z2' WHERE id = 0});
arrives('many', 'zero', 'Z2 out');
$sandbox->wait_for_contacts('mailingcore', 3001, account => 'many');
wait_for('3000 waiting contacts', sub { status('many') =~ /learning: 3000 contacts wait/ });
pass('any number can wait, and holds nothing else back');

# what waits is still known after a crash
crash_worker($node, 'postgres');
wait_for('3000 waiting contacts', sub { status('many') =~ /learning: 3000 contacts wait/ });
$sandbox->clear_faults('mailingcore');
sql(q{CALL contactsync_wait('many')});
is(scalar(grep { $_->{optIn} } @{ $sandbox->contacts('mailingcore', account => 'many') }), 3000, 'all of them are claimed then');
is($sandbox->count('mailingcore', account => 'many')->{contacts}, 6001, 'and nobody is missing');

# contactsync_pull() of a session ends the wait as well
create_server($node, $sandbox, 'mailingcore', account => 'session', role => 'shop', server => { pace => 100 });
$sandbox->fault('mailingcore', { match => { account => 'session', method => 'GET' }, times => 1, action => { status => 503, retry_after => '100000' } });
sql(q{
	CREATE TABLE session (id int PRIMARY KEY, email text, first_name text, opt_in boolean);
	SELECT contactsync_watch('session', 'session', '{"email": "email", "first_name": "first_name", "opt_in": "opt_in"}');
	INSERT INTO session VALUES (1, 'one@example.com', 'O', true)});
wait_for('a failure', sub { status('session') =~ /learning: 1 contacts wait .*503/ });
sql(q{SELECT contactsync_pull('session')});
arrives('session', 'one', 'O in');
pass('contactsync_pull() ends the wait');

# a key that may not list contacts
create_server($node, $sandbox, 'mailingcore', account => 'scope', role => 'shop', server => { pace => 100 });
$sandbox->fault('mailingcore', { match => { account => 'scope', method => 'GET' }, times => undef, action => { status => 403 } });
sql(q{
	CREATE TABLE scope (id int PRIMARY KEY, email text, first_name text, opt_in boolean);
	SELECT contactsync_watch('scope', 'scope', '{"email": "email", "first_name": "first_name", "opt_in": "opt_in"}');
	INSERT INTO scope VALUES (1, 'one@example.com', 'O', true);
	CALL contactsync_wait('scope')});
is(at_provider('scope', 'one'), 'O out', 'without the scope nobody is claimed who is not known');
like(status('scope'), qr/^idle\|learning is off: the contacts at the provider cannot be listed: HTTP status 403$/, 'status says that learning is off');

# a call that may have created a contact is not answered, and its row goes: who that was is not known, so the contacts are listed
create_server($node, $sandbox, 'mailingcore', account => 'lost', role => 'shop', server => { pace => 100, burst => 10, bulk_guard => 0 });
sql(q{
	CREATE TABLE lost (id int PRIMARY KEY, email text, first_name text, opt_in boolean);
	SELECT contactsync_watch('lost', 'lost', '{"email": "email", "first_name": "first_name", "opt_in": "opt_in"}');
	INSERT INTO lost VALUES (1, 'first@example.com', 'F', true);
	CALL contactsync_wait('lost')});
is(at_provider('lost', 'first') . ', ' . scalar lists('lost'), 'F in, 1', 'the contacts were listed once');
$sandbox->fault('mailingcore', { match => { account => 'lost', method => 'POST' }, times => undef, effect => 'after', action => { status => 503 } });
sql(q{INSERT INTO lost VALUES (2, 'unanswered@example.com', 'U', true)});
arrives('lost', 'unanswered', 'U in');
sql(q{DELETE FROM lost WHERE id = 2});
$sandbox->call('POST', 'mailingcore/people', { account => 'lost', email => 'unanswered@example.com', act => 'opt_out' });
$sandbox->clear_faults('mailingcore');
sql(q{CALL contactsync_wait('lost')});
sql(q{INSERT INTO lost VALUES (3, 'unanswered@example.com', 'U2', true), (4, 'other@example.com', 'O', true); CALL contactsync_wait('lost')});
is(at_provider('lost', 'unanswered'), 'U2 out', 'another row of the address is not taken for the first one');
is(at_provider('lost', 'other'), 'O in', 'whoever is new is');
is(scalar lists('lost'), 2, 'only what has changed is listed, once');

# rows that one transaction wrote, of which one has gone without an answer, and another waits for that listing: it is listed once
create_server($node, $sandbox, 'mailingcore', account => 'pair', role => 'shop', server => { pace => 100, burst => 10, bulk_guard => 0, max_retries => 100 });
sql(q{
	CREATE TABLE pair (id int PRIMARY KEY, email text, first_name text, opt_in boolean);
	SELECT contactsync_watch('pair', 'pair', '{"email": "email", "first_name": "first_name", "opt_in": "opt_in"}');
	INSERT INTO pair VALUES (1, 'first@example.com', 'F', true);
	CALL contactsync_wait('pair')});
$sandbox->fault('mailingcore', { match => { account => 'pair', method => 'POST' }, times => undef, action => { status => 503 } });
sql(q{INSERT INTO pair VALUES (2, 'gone@example.com', 'G', true), (3, 'stays@example.com', 'S', true)});
wait_for('a call', sub { 2 < @{ $sandbox->journal('mailingcore', account => 'pair') } });
# the worker before the crash does not read that it has gone
sql(q{SELECT contactsync_pause('pair'); DELETE FROM pair WHERE id = 2});
crash_worker($node, 'postgres');
sql(q{SELECT contactsync_resume('pair')});
wait_for('another listing', sub { 2 == lists('pair') });
$sandbox->clear_faults('mailingcore');
arrives('pair', 'stays', 'S in');
sql(q{CALL contactsync_wait('pair')});
is(scalar lists('pair'), 2, 'a row that has gone has the contacts listed once, though another of its transaction waits for that');

# a newer opt_in_at that is given while a call is in flight
create_server($node, $sandbox, 'mailingcore', account => 'newer', role => 'shop', server => { pace => 100, burst => 10, bulk_guard => 0, timeout => '1h' });
$sandbox->call('POST', 'mailingcore/contacts', { account => 'newer', contacts => [ { email => 'left@example.com', optIn => \0, attributes => { firstName => 'L' } } ] });
sql(q{
	CREATE TABLE newer (id int PRIMARY KEY, email text, first_name text, opt_in boolean, at timestamptz);
	SELECT contactsync_watch('newer', 'newer', '{"email": "email", "first_name": "first_name", "opt_in": "opt_in", "opt_in_at": "at"}')});
$sandbox->fault('mailingcore', { match => { account => 'newer', method => 'POST' }, effect => 'before', action => { stall => \1 } });
sql(q{INSERT INTO newer VALUES (1, 'left@example.com', 'N', true)});
$sandbox->wait_for_journal('mailingcore', sub { grep { $_->{account} eq 'newer' && $_->{in_flight} && $_->{method} eq 'POST' } @_ });
sql(q{UPDATE newer SET at = clock_timestamp()});
$sandbox->clear_faults('mailingcore');
sql(q{CALL contactsync_wait('newer')});
is(at_provider('newer', 'left'), 'N in', 'a newer opt_in_at that is given while a call is in flight is a word');

# the worker lists by itself what has changed
create_server($node, $sandbox, 'mailingcore', account => 'regular', role => 'shop', server => { pace => 100, pull_every => '10 s' });
sql(q{
	CREATE TABLE regular (id int PRIMARY KEY, email text, first_name text, opt_in boolean);
	SELECT contactsync_watch('regular', 'regular', '{"email": "email", "first_name": "first_name", "opt_in": "opt_in"}');
	INSERT INTO regular VALUES (1, 'one@example.com', 'O', true);
	CALL contactsync_wait('regular')});
$sandbox->call('POST', 'mailingcore/people', { account => 'regular', email => 'one@example.com', act => 'opt_out' });
wait_for('the opt-out', sub { sql(q{SELECT consent FROM contactsync.contacts WHERE server = 'regular'}) eq 'opted out' });
is(sql(q{SELECT key FROM contactsync.opt_outs WHERE source = 'regular'::regclass}), '1', 'pull_every has the worker learn of an opt-out');
sql(q{UPDATE regular SET first_name = 'O2'; CALL contactsync_wait('regular')});
is(at_provider('regular', 'one'), 'O2 out', '... which a change does not undo');

$node->stop;
done_testing();
