# A paused server or watch sends nothing, whatever else happens, and everything after it is resumed.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $speed = 20;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('contactsync.clock_speed' => $speed);

# everything is done by a role that owns nothing but its servers and tables
$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop});

sub sql { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'shop' ]); }

sub status
{
	my ($where) = @_;

	return sql("SELECT concat_ws('|', state, reason, backlog) FROM contactsync.status WHERE $where");
}

# Wait until the worker has read the pause: then it has also processed everything that came before.
sub settle
{
	sql(q{INSERT INTO other SELECT coalesce(max(id), 0) + 1, 'o' || coalesce(max(id), 0) + 1 || '@example.com' FROM other;
		CALL contactsync_wait('other')});
	return;
}

create_server($node, $sandbox, 'mailingcore', account => $_, role => 'shop', server => { pace => 1000, burst => 1000, timeout => '600s' }) foreach qw(mail other);
foreach my $table (qw(customers leads other))
{
	my $server = $table eq 'other' ? 'other' : 'mail';

	sql(qq{CREATE TABLE $table (id integer PRIMARY KEY, email text);
		SELECT contactsync_watch('$table', '$server', '{"email": "email"}')});
}

# a call in flight completes, and later changes wait
$sandbox->fault('mailingcore', { match => { account => 'mail' }, times => 1, action => { stall => \1 } });
sql(q{INSERT INTO customers VALUES (1, 'c1@example.com')});
$node->poll_query_until('postgres', q{SELECT in_flight = 1 FROM contactsync.status WHERE source = 'customers'::regclass})
  or die 'timed out waiting for a call';
sql(q{SELECT contactsync_pause('customers', 'mail'); INSERT INTO customers VALUES (2, 'c2@example.com'), (3, 'c3@example.com')});
settle();
is(status(q{source = 'customers'::regclass AND in_flight = 1}), 'paused|by shop|3', 'the watch is paused while a call is in flight');
$sandbox->clear_faults('mailingcore');
$sandbox->wait_for_contacts('mailingcore', 1, account => 'mail');
$node->poll_query_until('postgres', q{SELECT backlog = 2 FROM contactsync.status WHERE source = 'customers'::regclass})
  or die 'timed out waiting for the outcome';
settle();
is(status(q{source = 'customers'::regclass}), 'paused|by shop|2',
	'the call in flight completes, and later changes stay queued');

# other watches of the server continue
sql(q{INSERT INTO leads VALUES (1, 'l1@example.com')});
$sandbox->wait_for_contacts('mailingcore', 2, account => 'mail');
is($sandbox->count('mailingcore', account => 'mail')->{contacts}, 2, 'another watch of the server continues');

# a restart does not end a pause
$node->stop;
$node->start;
settle();
like(status(q{source = 'customers'::regclass}), qr/^paused.*2$/, 'the watch is paused after a restart');
is($sandbox->count('mailingcore', account => 'mail')->{contacts}, 2, 'nothing is sent');

# neither does a halt, nor the end of a halt
sql(q{SELECT contactsync_pause('mail'); ALTER USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (SET api_key 'mc_test_wrong');
	INSERT INTO leads VALUES (2, 'l2@example.com')});
settle();
like(status(q{source = 'leads'::regclass}), qr/^paused.*1$/, 'a paused server does not try a wrong key');
sql(q{SELECT contactsync_resume('mail')});
$node->poll_query_until('postgres', q{SELECT state = 'halted' FROM contactsync.status WHERE source = 'leads'::regclass})
  or die 'timed out waiting for a halt';
sql(q{SELECT contactsync_pause('mail'); ALTER USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (SET api_key 'mc_test_mail')});
settle();
like(status(q{source = 'leads'::regclass}), qr/^paused.*1$/, 'a server that was halted when it was paused does not continue after the correction');
my ($ret, $stdout, $stderr) = $node->psql('postgres', q{CALL contactsync_wait('mail')}, extra_params => [ '-U', 'shop' ]);
like($stderr, qr/delivery to server "mail" cannot continue: paused by/, 'contactsync_wait() states the reason');

sql(q{SELECT contactsync_resume('mail')});
$sandbox->wait_for_contacts('mailingcore', 3, account => 'mail');
sql(q{SELECT contactsync_resume('customers', 'mail'); CALL contactsync_wait('mail')});
is($sandbox->count('mailingcore', account => 'mail')->{contacts}, 5, 'everything arrives after contactsync_resume()');
is(status(q{source IS NOT NULL AND state <> 'idle'}), '', 'all servers are idle');

done_testing();
