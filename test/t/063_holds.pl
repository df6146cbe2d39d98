# Whoever cannot send does not hold a contact against others: not a role with a wrong key, and not a watch that is paused.
# As plain roles.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; CREATE ROLE guest LOGIN; GRANT CREATE ON SCHEMA public TO shop, guest});

sub sql { my ($role, $sql) = @_; return $node->safe_psql('postgres', "SET client_min_messages = warning; $sql", extra_params => [ '-U', $role ]); }
sub opt_in { my ($email) = @_; return (map { $_->{optIn} ? 'yes' : 'no' } grep { $_->{email} eq $email } @{ $sandbox->contacts('mailingcore', account => 'crm') })[0]; }
sub state_of { my ($role) = @_; return $node->safe_psql('postgres', "SELECT state FROM contactsync.endpoint WHERE server = 'crm' AND role = '$role'::regrole"); }

create_server($node, $sandbox, 'mailingcore', account => 'crm', role => 'shop', server => { pace => 1000, burst => 1000 });
sql('shop', q{
	GRANT USAGE ON FOREIGN SERVER crm TO guest;
	CREATE TABLE customers (id int PRIMARY KEY, email text, opt_in bool);
	SELECT contactsync_watch('customers', 'crm', '{"email": "email", "opt_in": "opt_in"}');
	INSERT INTO customers SELECT g, format('c%s@example.com', g), true FROM generate_series(1, 3) g;
	CALL contactsync_wait('crm')});
is(opt_in('c1@example.com'), 'yes', 'the owner has claimed consent');

# another role with a wrong key says the contrary, and is halted with it
sql('guest', q{
	CREATE USER MAPPING FOR guest SERVER crm OPTIONS (api_key 'mc_test_wrong');
	SELECT contactsync_upsert('crm', '{"email": "c1@example.com", "opt_in": true}');
	CREATE TABLE visitors (id int PRIMARY KEY, email text, opt_in bool);
	SELECT contactsync_watch('visitors', 'crm', '{"email": "email", "opt_in": "opt_in"}');
	INSERT INTO visitors VALUES (1, 'c2@example.com', true)});
wait_for('the other role to be halted', sub { state_of('guest') eq 'halted' });
sql('shop', q{UPDATE customers SET opt_in = false WHERE id IN (1, 2); CALL contactsync_wait('crm')});
is(opt_in('c1@example.com') . opt_in('c2@example.com'), 'nono', 'the opt-outs of the owner arrive');
is(state_of('guest') . ' ' . state_of('shop'), 'halted running', 'while the other is halted');

# the call of the other hangs
my ($grant) = values %{ $sandbox->call('GET', 'mailingcore/config', undef, account => 'crm')->{keys} };
$sandbox->config('mailingcore', { account => 'crm', keys => { mc_test_guest => $grant } });
sql('guest', q{ALTER USER MAPPING FOR guest SERVER crm OPTIONS (SET api_key 'mc_test_guest')});
sql('guest', q{CALL contactsync_wait('crm')});
$sandbox->fault('mailingcore', { match => { account => 'crm', email => 'c3@example.com' }, effect => 'before', action => { stall => \1, status => 503 } });
sql('guest', q{SELECT contactsync_upsert('crm', '{"email": "c3@example.com", "first_name": "Guest"}')});
$sandbox->wait_for_journal('mailingcore', sub { grep { $_->{in_flight} } @_ });
sql('shop', q{UPDATE customers SET opt_in = false WHERE id = 3; CALL contactsync_wait('crm')});
is(opt_in('c3@example.com'), 'no', 'nor does a call of the other that hangs hold the contact');
$sandbox->clear_faults('mailingcore');
sql('guest', q{CALL contactsync_wait('crm')});
is(opt_in('c3@example.com'), 'no', 'the opt-out stays');

# a watch that is paused while one of its contacts waits to be sent again
sql('shop', q{
	CREATE TABLE accounts (id int PRIMARY KEY, email text, opt_in bool);
	SELECT contactsync_watch('accounts', 'crm', '{"email": "email", "opt_in": "opt_in", "first_name": "''A''"}');
	INSERT INTO customers VALUES (4, 'c4@example.com', true);
	CALL contactsync_wait('crm')});
is(opt_in('c4@example.com'), 'yes', 'a new contact');
$sandbox->fault('mailingcore', { match => { account => 'crm', email => 'c4@example.com' }, action => { stall => \1, status => 500 } });
sql('shop', q{INSERT INTO accounts VALUES (4, 'c4@example.com', true)});
$sandbox->wait_for_journal('mailingcore', sub { grep { $_->{in_flight} } @_ });
sql('shop', q{SELECT contactsync_pause('accounts', 'crm'); UPDATE customers SET opt_in = false WHERE id = 4});
$sandbox->clear_faults('mailingcore');
wait_for('the opt-out', sub { opt_in('c4@example.com') eq 'no' });
pass('what a paused watch was about to send again does not hold the contact');
sql('shop', q{SELECT contactsync_resume('accounts', 'crm'); CALL contactsync_wait('crm')});
is(opt_in('c4@example.com'), 'no', 'nor does it claim consent when it goes on');

$node->stop;
done_testing();
