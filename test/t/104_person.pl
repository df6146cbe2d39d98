# One person, while the worker works: calls are recorded on request, rows are resent on request, and after contactsync_forget()
# nothing of the person is stored again, not even by a call that was in flight.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('contactsync.trace_rows' => 5);

sub sql { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'shop' ]); }
sub admin { return $node->safe_psql('postgres', $_[0]); }

# everything is done by a role that owns nothing but its servers and tables
$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop});

create_server($node, $sandbox, 'mailingcore', account => 'mail', role => 'shop', server => { pace => 1000, burst => 1000, timeout => '600s' });
sql(q{CREATE TABLE customers (id integer PRIMARY KEY, email text, plan text);
	SELECT contactsync_watch('customers', 'mail', '{"email": "email", "attributes": {"plan": "plan"}}');
	INSERT INTO customers SELECT g, 'c' || g || '@example.com', 'free' FROM generate_series(1, 20) g;
	CALL contactsync_wait('mail')});

# Return everything that mentions a person, in all tables.
sub mentions
{
	my ($what) = @_;

	return join ' ', grep { admin("SELECT count(*) FROM contactsync.$_ t WHERE t::text LIKE '%$what%'") } split /\n/,
	  admin(q{SELECT relname FROM pg_class WHERE relnamespace = 'contactsync'::regnamespace AND relkind = 'r' ORDER BY 1});
}

# touched rows are sent, others are not
my $requests = sub { $sandbox->count('mailingcore', account => 'mail')->{requests} };
my $before = $requests->();
sql(q{UPDATE customers SET plan = plan; CALL contactsync_wait('mail')});
is($requests->(), $before, 'an unchanged row is not sent');
is(sql(q{SELECT contactsync_touch('customers', 'mail', 3)}), 1, 'one row is touched');
sql(q{CALL contactsync_wait('mail')});
is($requests->(), $before + 1, 'the touched row is sent');
# also if its key is in flight, with a value that would make the later one equal
$sandbox->fault('mailingcore', { match => { account => 'mail' }, times => 1, action => { stall => \1 } });
sql(q{UPDATE customers SET plan = 'gold' WHERE id = 3});
$node->poll_query_until('postgres', 'SELECT in_flight = 1 FROM contactsync.status') or die 'timed out waiting for a call';
sql(q{SELECT contactsync_touch('customers', 'mail', 3)});
# when a later change has arrived, the worker has read the touch
sql(q{UPDATE customers SET plan = 'gold' WHERE id = 4});
$node->poll_query_until('postgres', q{SELECT synced_at > now() - interval '1 min' AND c.digest <> '00000000-0000-0000-0000-000000000000' AND s.synced = 22
	FROM contactsync.contact c, contactsync.status s WHERE c.key = '4'}) or die 'timed out waiting for the later change';
$sandbox->clear_faults('mailingcore');
sql(q{CALL contactsync_wait('mail')});
is($requests->(), $before + 4, 'a row that is touched while it is in flight is sent once more');

# traces contain only the one contact, even in a batch with others, and no key
sql(q{SELECT contactsync_trace('mail', 'c7@example.com')});
sql(q{UPDATE customers SET plan = 'silver'; CALL contactsync_wait('mail')});
is(sql(q{SELECT source, key, email, method, status, verdict FROM contactsync.traces}), 'customers|7|c7@example.com|POST|200|done', 'the call is recorded');
is(sql(q{SELECT request LIKE '%c7@example.com%' AND request LIKE '%silver%' AND request NOT LIKE '%c8@example.com%' AND request_headers LIKE '%: ***%' AND response <> '' FROM contactsync.traces}),
	't', 'request and answer are complete, without other contacts');
is(admin(q{SELECT count(*) FROM contactsync.trace t WHERE t::text LIKE '%mc_test_mail%'}), 0, 'the key is removed');
# an answer that repeats the key
$sandbox->fault('mailingcore', { match => { account => 'mail' }, times => 1,
	action => { status => 400, body => '{"error": "c7 mc_test_mail is not valid"}' } });
sql(q{UPDATE customers SET plan = 'bronze' WHERE id = 7; CALL contactsync_wait('mail')});
is(sql(q{SELECT response FROM contactsync.traces WHERE status = 400}), '{"error": "c7 *** is not valid"}', 'the key is removed from the answer');
is(sql(q{SELECT string_agg(event, ' ' ORDER BY at) FROM contactsync_find('c7@example.com')}) =~ /called.*called/ ? 1 : 0, 1, 'contactsync_find() shows the calls');
sql(q{SELECT contactsync_trace('mail', 'c7@example.com', false)});
my $kept = sql('SELECT count(*) FROM contactsync.traces');
sql(q{UPDATE customers SET plan = 'other' WHERE id = 7; CALL contactsync_wait('mail')});
is(sql('SELECT count(*) FROM contactsync.traces'), $kept, 'nothing is recorded after the trace is turned off');

# trace a row by its key
sql(q{SELECT contactsync_trace_row('customers', 'mail', 8); UPDATE customers SET plan = 'other' WHERE id IN (8, 9); CALL contactsync_wait('mail')});
is(sql(q{SELECT count(*) FROM contactsync.traces WHERE key = '8'}), 1, 'a row is traced by its key');

# forget a contact while a call is in flight
$sandbox->fault('mailingcore', { match => { account => 'mail' }, times => 1, action => { stall => \1 } });
sql(q{UPDATE customers SET plan = 'late' WHERE id = 8});
$node->poll_query_until('postgres', 'SELECT in_flight = 1 FROM contactsync.status') or die 'timed out waiting for a call';
sql(q{DELETE FROM customers WHERE id = 8; SELECT contactsync_forget('c8@example.com')});
$sandbox->clear_faults('mailingcore');
$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM contactsync.forgotten}) or die 'timed out waiting for the worker to forget';
sql(q{UPDATE customers SET plan = 'after' WHERE id = 9; CALL contactsync_wait('mail')});
is(mentions('c8@example'), '', 'nothing mentions a forgotten contact, although a call was in flight');
is(admin(q{SELECT count(*) FROM contactsync.contact WHERE key = '8'}), 0, 'its key is not stored');
is(sql(q{SELECT count(*) FROM contactsync_find('c8@example.com')}), 0, 'contactsync_find() finds nothing');
is(admin(q{SELECT count(*) FROM contactsync.contact}), 19, 'all other contacts are still known');
is(sql(q{SELECT state, backlog FROM contactsync.status}), 'idle|0', 'the server is idle');

# a key that is contained in what takes its place
foreach my $secret ('*', '**', '***')
{
	my $name = 'stars' . length $secret;

	create_server($node, $sandbox, 'mailingcore', account => $name, role => 'shop');
	sql(qq{SELECT contactsync_upsert('$name', '{"email": "star\@example.com"}'); CALL contactsync_wait('$name');
		SELECT contactsync_trace('$name', 'star\@example.com');
		ALTER USER MAPPING FOR CURRENT_USER SERVER "$name" OPTIONS (SET api_key '$secret');
		SELECT contactsync_upsert('$name', '{"email": "star\@example.com", "first_name": "1 *** 2"}')});
	eval
	{
		# a worker that never ends does not stop with the server either
		local $PostgreSQL::Test::Utils::timeout_default = 30;
		wait_for("a call with the key $secret", sub { sql(qq{SELECT count(*) FROM contactsync.traces WHERE server = '$name' AND status = 401}) });
	} or do { $node->stop('immediate'); die $@ };
}
is(sql(q{SELECT string_agg(r, ',' ORDER BY length(r)) FROM (SELECT DISTINCT substring(request FROM '1 .* 2') FROM contactsync.traces WHERE status = 401) t (r)}),
	'1 *** 2,1 **** 2,1 ********* 2', 'such a key is replaced once wherever it occurs');

$node->stop;
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/mc_test_mail|PANIC|terminated by signal/, 'the log contains neither a secret nor a crash');
done_testing();
