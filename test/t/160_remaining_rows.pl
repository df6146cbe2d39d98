# A person is forgotten who has rows in several tables. What is left of them stands for the contact when one of them is sent
# again, and goes: the contact goes last.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

# all is done by a role that owns nothing but its server and tables
sub sql { return $node->safe_psql('postgres', "SET client_min_messages = warning; $_[0]", extra_params => [ '-U', 'app' ]); }
sub admin { return $node->safe_psql('postgres', $_[0]); }
sub settle { sql("$_[0]; CALL contactsync_wait('crm')"); return; }
sub is_there { my ($who) = @_; return scalar grep { $_->{email} eq "$who\@example.com" } @{ $sandbox->contacts('mailingcore', account => 'crm') }; }
sub remaining { return admin(q{SELECT count(*) FROM contactsync.remaining_row}); }

admin(q{CREATE ROLE app LOGIN; GRANT CREATE ON SCHEMA public TO app});
create_server($node, $sandbox, 'mailingcore', account => 'crm', role => 'app', server => { pace => 1000, burst => 1000, timeout => '600s' });
my $watch_clients = q{SELECT contactsync_watch('clients', 'crm', '{"external_id": "split_part(email, ''@'', 1)", "email": "email", "first_name": "name"}', filter => 'name <> ''hidden''', on_delete => 'delete', delete_delay => '0', delete_guard => 'off')};
sql(q{CREATE TABLE people (id int PRIMARY KEY, email text, name text);
	CREATE TABLE clients (id int PRIMARY KEY, email text, name text);
	CREATE TABLE members (id int PRIMARY KEY, email text, name text);
	SELECT contactsync_watch('people', 'crm', '{"external_id": "split_part(email, ''@'', 1)", "email": "email", "first_name": "name"}', on_delete => 'delete', delete_delay => '0', delete_guard => 'off');
	SELECT contactsync_watch('members', 'crm', '{"email": "email", "first_name": "name"}');
	INSERT INTO people VALUES (1, 'first@example.com', 'First')});
sql($watch_clients);

# Return when what was left until now has been decided on: somebody who left later is removed.
my $others = 1000;
sub decide
{
	$others++;
	settle("INSERT INTO people VALUES ($others, 'other$others\@example.com', 'Other')");
	settle("DELETE FROM people WHERE id = $others");
	wait_for('a contact to be removed', sub { !is_there("other$others") });
	return;
}

# The process that delivers knows what was forgotten.
sub forget
{
	my ($args) = @_;

	sql("SELECT contactsync_forget($args)");
	$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM contactsync.forgotten') or die 'timed out waiting for the worker to forget';
	return;
}

# A person with a row in either table, of which one is sent again after both were forgotten.
my $id = 1;
sub come_back
{
	my ($who, $table) = @_;

	$table //= 'clients';

	$id++;
	settle("INSERT INTO people VALUES ($id, '$who\@example.com', 'A'); INSERT INTO $table VALUES ($id, '$who\@example.com', 'A')");
	forget("'$who\@example.com'");
	settle("UPDATE people SET name = 'B' WHERE id = $id");
	return;
}

# The row that was sent again goes, and the contact stays.
sub stays
{
	my ($who, $why) = @_;

	settle("DELETE FROM people WHERE email = '$who\@example.com'");
	decide();
	is(is_there($who), 1, "the contact stays that a forgotten row stands for$why");
	return;
}

sub goes
{
	my ($who, $when) = @_;

	wait_for("$who to be removed $when", sub { !is_there($who) });
	pass("it goes $when");
	is(remaining(), '0', '... and nothing is left');
	return;
}

come_back('ann');
is(sql(q{SELECT string_agg(concat_ws(' ', source, key), ',') FROM contactsync_find('ann@example.com') WHERE event = 'remaining'}), "clients $id", 'contactsync_find() shows the row');
is(admin(q{SELECT count(*) FROM contactsync.remaining_row t WHERE t::text LIKE '%ann%'}), '0', 'of which no address is kept');
stays('ann', '');
settle(q{DELETE FROM clients});
goes('ann', 'with that row');

come_back('bea');
stays('bea', ', if it is filtered out later');
settle(q{UPDATE clients SET name = 'hidden'});
goes('bea', 'then');

come_back('cleo');
stays('cleo', ', if it gets another address later');
settle(q{UPDATE clients SET email = 'cleo.new@example.com' WHERE email LIKE 'cleo@%'});
goes('cleo', 'then');
is(is_there('cleo.new'), 1, '... and the other address is there');

come_back('dora');
settle(q{UPDATE clients SET name = 'C' WHERE email LIKE 'dora@%'});
is(remaining(), '0', 'a row that is sent again is a row like others');
stays('dora', ' and is sent again');
settle(q{DELETE FROM clients WHERE email LIKE 'dora@%'});
goes('dora', 'with that row');

come_back('eve');
stays('eve', ', if its table is emptied');
settle(q{TRUNCATE clients});
goes('eve', 'then');

come_back('fay');
$node->restart;
stays('fay', ', after a restart');
$node->restart;
decide();
is(is_there('fay'), 1, '... and after another one');
settle(q{DELETE FROM clients});
goes('fay', 'with that row');

come_back('gina');
stays('gina', ', if nobody sees it go');
admin(q{SET session_replication_role = replica; DELETE FROM clients});
decide();
is(is_there('gina'), 1, '... until then');
settle(q{SELECT contactsync_reconcile('clients', 'crm')});
goes('gina', 'with a reconciliation');

come_back('hana');
settle(q{SELECT contactsync_reconcile('clients', 'crm')});
is(remaining(), '0', 'a reconciliation reads the row again');
stays('hana', ' that is reconciled');
settle(q{DELETE FROM clients});
goes('hana', 'with that row');

# the table is not watched any more: that removes nobody
come_back('ida');
stays('ida', ' when its table is unwatched');
sql(q{SELECT contactsync_unwatch('clients', 'crm'); TRUNCATE clients});
is(remaining(), '0', 'what was noted of the table goes with its watch');
decide();
is(is_there('ida'), 1, '... and the contact stays');
sql($watch_clients);
come_back('jo');
sql(q{SELECT contactsync_unwatch('clients', 'crm'); TRUNCATE clients});
settle(q{DELETE FROM people WHERE email LIKE 'jo@%'});
goes('jo', 'if its last row goes after that');
sql($watch_clients);

# the row is found by its address, and the contact by an ID
come_back('kim', 'members');
stays('kim', ', under another key');
settle(q{DELETE FROM members});
goes('kim', 'with that row');

# a row is forgotten by its key, whose contact another one stands for that is not read again yet
come_back('lea');
forget("'people', 'crm', $id");
settle(q{UPDATE people SET name = 'C' WHERE email LIKE 'lea@%'});
stays('lea', ', of which another row was forgotten by its key');
settle(q{DELETE FROM clients});
goes('lea', 'with that row');
come_back('mia');
sql("DELETE FROM people WHERE id = $id");
forget("'people', 'crm', $id");
decide();
is(is_there('mia'), 1, 'the contact stays, of which a row that has gone was forgotten by its key');
settle(q{DELETE FROM clients});
goes('mia', 'with the other row');

# forgotten again
come_back('nora');
sql(q{DELETE FROM people WHERE email LIKE 'nora@%'});
forget(q{'nora@example.com'});
decide();
is(is_there('nora'), 1, 'to forget a person again removes nobody');
settle(q{UPDATE clients SET name = 'C'});
settle(q{DELETE FROM clients});
goes('nora', 'when its row is sent again and goes');
come_back('olga');
stays('olga', ' before it is forgotten again');
sql(q{BEGIN; DELETE FROM clients; SELECT contactsync_forget('olga@example.com'); COMMIT});
goes('olga', 'when the row goes, and the person is forgotten with it');

# the row goes in the transaction in which the person is forgotten
foreach (1 .. 5)
{
	settle(q{INSERT INTO people VALUES (400, 'pia@example.com', 'A'); INSERT INTO clients VALUES (400, 'pia@example.com', 'A')});
	settle(q{BEGIN; SELECT contactsync_forget('pia@example.com'); DELETE FROM people; DELETE FROM clients; COMMIT});
}
wait_for('rows to be read that went when their person was forgotten', sub { remaining() eq '0' });
pass('rows that go when their person is forgotten are not noted');

# the first call of the row is in flight, of which nothing is stored before, as its table removes nobody
$sandbox->fault('mailingcore', { match => { account => 'crm' }, times => 1, action => { stall => \1 } });
sql(q{INSERT INTO members VALUES (500, 'rosa@example.com', 'A')});
$node->poll_query_until('postgres', q{SELECT bool_or(in_flight = 1) FROM contactsync.status}) or die 'timed out waiting for a call';
sql(q{SELECT contactsync_forget('rosa@example.com')});
$sandbox->clear_faults('mailingcore');
$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM contactsync.forgotten') or die 'timed out waiting for the worker to forget';
settle(q{INSERT INTO people VALUES (500, 'rosa@example.com', 'B')});
stays('rosa', ', whose call was in flight when it was forgotten');
settle(q{DELETE FROM members});
goes('rosa', 'with that row');

# no hash is kept: nothing is known of the row until it is read again, as is documented
come_back('sue');
is(remaining(), '1', 'a row is noted');
forget(q{'sue@example.com', suppression => false});
is(remaining(), '0', 'suppression => false keeps no hash of its contact');

sql(q{DROP TABLE people, clients, members});
$node->stop;
done_testing();
