# Consent at Spotzee, where whoever exists is mailed: who is created, who is updated only, and what becomes of opt-outs.

use strict;
use warnings;

use ContactSync;
use JSON::PP;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('restart_after_crash' => 'on');

$node->safe_psql('postgres', 'CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop');

sub sql { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'shop' ]); }

# Create a server and a watched table of that name.
sub prepare
{
	my ($name, %server) = @_;

	create_server($node, $sandbox, 'spotzee', account => $name, role => 'shop', server => { pace => 500, burst => 50, account => $name, %server });
	sql(qq{CREATE TABLE $name (id int PRIMARY KEY, customer text, email text, name text, wants boolean)});
	watch($name);
	return;
}

sub watch
{
	my ($name) = @_;

	sql(qq{
		SET client_min_messages = warning;
		SELECT contactsync_watch('$name', '$name', '{"external_id": "customer", "email": "email", "first_name": "name", "opt_in": "wants"}',
			on_delete => 'delete', delete_delay => '0')});
	return;
}

# Change something, wait, and return what was called, such as "GET c1 200, POST users 200".
sub change
{
	my ($name, $sql) = @_;
	my $since = @{ $sandbox->journal('spotzee', account => $name) };

	sql("$sql; CALL contactsync_wait('$name')");
	my @calls = @{ $sandbox->journal('spotzee', account => $name) };
	return join(', ', map { "$_->{method} " . (($_->{path} =~ s{^/api/client/}{}r) =~ s{/batch$}{}r) . " $_->{status}" } @calls[ $since .. $#calls ]);
}

# Return the contact with an ID, such as "Ann a@example.com", and its subscription if one is recorded.
sub contact
{
	my ($name, $id) = @_;
	my ($contact) = grep { $_->{external_id} eq $id } @{ $sandbox->contacts('spotzee', account => $name) };

	return 'nobody' unless $contact;
	my $state = $contact->{subscriptions}{5};
	return join(' ', $contact->{first_name} // $contact->{data}{first_name}, $contact->{email}, defined $state ? $state : ());
}

sub act
{
	my ($name, $act, $email) = @_;

	return $sandbox->call('POST', 'spotzee/people', { account => $name, email => $email, act => $act });
}

# create a contact that somebody else created there
sub older
{
	my ($name, $id, $email) = @_;

	return $sandbox->call('POST', 'spotzee/contacts',
		{ account => $name, contacts => [ { external_id => $id, email => $email, first_name => 'Old', data => {} } ] });
}

# with a subscription
prepare('paper', subscription_id => 5, api => 'contacts');
is(change('paper', q{INSERT INTO paper VALUES (1, 'c1', 'a@example.com', 'Ann', false)}), 'GET contacts/c1 404', 'whoever says no is looked up, and not created');
is(contact('paper', 'c1'), 'nobody', 'there is no contact');
is(change('paper', q{SELECT contactsync_reconcile('paper', 'paper')}), '', 'nor is the contact looked up again before its row changes');
is(change('paper', q{SELECT contactsync_mark_stale('paper'), contactsync_reconcile('paper', 'paper')}), 'GET contacts/c1 404', 'but it is if nothing is trusted any more');
is(change('paper', q{UPDATE paper SET wants = true}), 'POST contacts 200', 'with a consent the contact is created');
is(contact('paper', 'c1'), 'Ann a@example.com', 'by which it is subscribed');
is(change('paper', q{UPDATE paper SET wants = false}), 'POST contacts 200, POST subscriptions 200', 'an opt-out is recorded');
is(contact('paper', 'c1'), 'Ann a@example.com 0', 'state 0 is recorded, and the contact stays');
is(change('paper', q{UPDATE paper SET name = 'Anna'}), 'POST contacts 200, POST subscriptions 200', 'other fields are updated');
is(contact('paper', 'c1'), 'Anna a@example.com 0', 'without a subscription');
is(change('paper', q{UPDATE paper SET wants = true}), 'POST contacts 200, POST subscriptions 200', 'a new consent is recorded');
is(contact('paper', 'c1'), 'Anna a@example.com 1', 'as state 1');
act('paper', 'opt_out', 'a@example.com');
is(change('paper', q{UPDATE paper SET name = 'Ann'}), 'POST contacts 200', 'a change of the row');
is(contact('paper', 'c1'), 'Ann a@example.com 0', 'does not undo an opt-out at Spotzee');

# people whom Spotzee knows, and we do not
older('paper', 'c2', 'b@example.com');
is(change('paper', q{INSERT INTO paper VALUES (2, 'c2', 'b@example.com', 'Bob', NULL)}), 'GET contacts/c2 200, POST contacts 200', 'a contact that exists is updated');
is(contact('paper', 'c2'), 'Bob b@example.com', 'although its consent is not known');
older('paper', 'c3', 'c@example.com');
is( change('paper', q{INSERT INTO paper VALUES (3, 'c3', 'c@example.com', 'Cid', false)}),
	'GET contacts/c3 200, POST contacts 200, POST subscriptions 200',
	'the opt-out of a contact that exists is recorded');
is(contact('paper', 'c3'), 'Cid c@example.com 0', 'as state 0');

# it keeps its address, also if the answer calls it as older ones do
older('paper', 'c4', 'd@example.com');
$sandbox->fault('spotzee', { match => { account => 'paper', method => 'GET' },
	action => { status => 200, body => { contact => { external_id => 'c4', email => 'd@example.com' } } } });
change('paper', q{INSERT INTO paper VALUES (4, 'c4', 'elsewhere@example.com', 'Dan', NULL)});
is(contact('paper', 'c4'), 'Dan d@example.com', 'a contact that exists keeps its address');

# what is remembered when the server is made anew
sql(q{SELECT contactsync_unwatch('paper', 'paper'); DROP SERVER paper CASCADE});
create_server($node, $sandbox, 'spotzee', name => 'paper', role => 'shop',
	server => { pace => 500, burst => 50, account => 'paper', subscription_id => 5, api => 'contacts' }, mapping => { api_key => 'sk_paper' });
watch('paper');
change('paper', q{SELECT contactsync_import('paper', 'paper')});
is(contact('paper', 'c1'), 'Ann a@example.com 0', 'an import by a new server does not undo the opt-out');
change('paper', q{UPDATE paper SET wants = false WHERE id = 1});
is( change('paper', q{UPDATE paper SET wants = true, name = 'Ann again' WHERE id = 1}),
	'POST contacts 200, POST subscriptions 200',
	'a new consent of a contact that the former server made is recorded');
is(contact('paper', 'c1'), 'Ann again a@example.com 1', 'as state 1');

# consent belongs to the address
is(change('paper', q{UPDATE paper SET wants = NULL, email = 'new@example.com', name = 'Ann 2' WHERE id = 1}), 'POST contacts 200', 'without a consent for a new address');
is(contact('paper', 'c1'), 'Ann 2 a@example.com 1', 'the contact keeps the previous one');
is( sql(q{SELECT consent, error FROM contactsync.contacts WHERE upsert_key = 'c1'}), 'held|the address is not changed without a consent for the new one', 'which is shown')
  or diag(sql('SELECT * FROM contactsync.contacts'));
change('paper', q{UPDATE paper SET wants = true WHERE id = 1});
like(contact('paper', 'c1'), qr/^Ann 2 new\@example.com/, 'with a consent it gets the new one');
is( change('paper', q{UPDATE paper SET wants = false, email = 'other@example.com' WHERE id = 1}),
	'POST subscriptions 200, POST contacts 200, POST subscriptions 200',
	'an opt-out is recorded before the address changes');
is(contact('paper', 'c1'), 'Ann 2 other@example.com 0', 'so that nobody is mailed there');
# ... also if it was recorded before: the person may have subscribed there since
$sandbox->call('POST', 'spotzee/people', { account => 'paper', email => 'other@example.com', act => 'opt_in' });
is( change('paper', q{UPDATE paper SET email = 'third@example.com' WHERE id = 1}),
	'POST subscriptions 200, POST contacts 200, POST subscriptions 200',
	'... again, if the contact gets yet another address');
is(contact('paper', 'c1'), 'Ann 2 third@example.com 0', '... so that nobody is mailed there, either');

# several rows of one contact with several addresses: what was said for one of them is remembered when the contact leaves it
change('paper', q{INSERT INTO paper VALUES (20, 'c20', 'x1@example.com', 'Xu', true)});
sql(q{SELECT contactsync_forget('x1@example.com')});
change('paper', q{INSERT INTO paper VALUES (21, 'c20', 'x2@example.com', 'Xu 2', false)});
change('paper', q{UPDATE paper SET name = 'Xu 3' WHERE id = 20});
change('paper', q{UPDATE paper SET name = 'Xu 4' WHERE id = 21});
is(contact('paper', 'c20'), 'Xu 4 x2@example.com 0', 'a contact passes from one address to another');
change('paper', q{INSERT INTO paper VALUES (22, 'c20', 'x1@example.com', 'Xu 5', NULL)});
change('paper', q{UPDATE paper SET wants = true WHERE id = 22});
like(contact('paper', 'c20'), qr/ 0$/, 'null and true of an address that had said true is no word');
change('paper', q{DELETE FROM paper WHERE id IN (20, 21, 22)});

# what contactsync_forget() leaves of one address does not pass to the next address of the contact
change('paper', q{INSERT INTO paper VALUES (25, 'c25', 'm1@example.com', 'Mo', true)});
change('paper', q{UPDATE paper SET email = 'm2@example.com' WHERE id = 25});
sql(q{SET client_min_messages = error; SELECT contactsync_forget('m2@example.com')});
change('paper', q{UPDATE paper SET name = 'Mo 2' WHERE id = 25});
change('paper', q{INSERT INTO paper VALUES (26, 'c25', 'm1@example.com', 'Mo 3', true)});
is(contact('paper', 'c25'), 'Mo 3 m1@example.com', 'a contact whose person was forgotten returns to the address that consented before');
is(sql(q{SELECT consent FROM contactsync.contacts WHERE upsert_key = 'c25'}), 'claimed', '... which is not closed');
change('paper', q{UPDATE paper SET email = 'm3@example.com' WHERE id = 25});
is(contact('paper', 'c25'), 'Mo 2 m3@example.com', 'it leaves that');
change('paper', q{UPDATE paper SET name = 'Mo 4' WHERE id = 26});
is(contact('paper', 'c25'), 'Mo 4 m1@example.com', '... and returns, since nobody was forgotten there');
change('paper', q{UPDATE paper SET email = 'm2@example.com', name = 'Mo 5' WHERE id = 26});
is(contact('paper', 'c25'), 'Mo 5 m1@example.com', '... but not to the address that was forgotten');
change('paper', q{DELETE FROM paper WHERE id IN (25, 26)});

# a row that was withheld before another row of the contact created it does not speak because it is reconciled
change('paper', q{INSERT INTO paper VALUES (30, 'c30', 'y0@example.com', 'No', false)});
change('paper', q{INSERT INTO paper VALUES (31, 'c30', 'y@example.com', 'Yes', true)});
is(contact('paper', 'c30'), 'Yes y@example.com', 'another row of the contact consents');
change('paper', q{SELECT contactsync_mark_stale('paper'), contactsync_reconcile('paper', 'paper')});
is(contact('paper', 'c30'), 'Yes y@example.com', 'a withheld row leaves it to that one when nothing is trusted');
change('paper', q{SELECT contactsync_alter_watch('paper', 'paper',
	mapping => '{"external_id": "customer", "email": "email", "first_name": "name", "opt_in": "wants", "attributes": {"n": "id"}}')});
change('paper', q{UPDATE paper SET name = 'Yes 2' WHERE id = 31});
change('paper', q{SELECT contactsync_reconcile('paper', 'paper')});
is(contact('paper', 'c30'), 'Yes 2 y@example.com', '... or another mapping says it in another way');
change('paper', q{DELETE FROM paper WHERE id IN (30, 31)});
change('paper', q{SELECT contactsync_alter_watch('paper', 'paper',
	mapping => '{"external_id": "customer", "email": "email", "first_name": "name", "opt_in": "wants"}')});

# a contact that keeps its address, because the person of the new one said no, is not taken for one that opted out
change('paper', q{INSERT INTO paper VALUES (40, 'c40', 'z1@example.com', 'Zed', true), (41, 'c41', 'z2@example.com', 'Zoe', false)});
change('paper', q{UPDATE paper SET email = 'z2@example.com' WHERE id = 40});
is(contact('paper', 'c40'), 'Zed z1@example.com', 'a contact does not get the address of somebody who said no');
is(sql(q{SELECT consent FROM contactsync.contacts WHERE upsert_key = 'c40'}), 'held', 'which says nothing of the person whose address it keeps');
change('paper', q{DELETE FROM paper WHERE id IN (40, 41)});

# a contact that was deleted and is created again by a change of the same number, as after a restore of an old backup
sub create_by
{
	my ($number) = @_;

	change('paper', q{INSERT INTO paper VALUES (9, 'c9', 'z@example.com', 'Zoe', false)});
	sql(q{SELECT contactsync_pause('paper'); UPDATE paper SET wants = true WHERE id = 9});
	$node->safe_psql('postgres', "UPDATE contactsync.queue SET (xact, id) = ($number)") if $number;
	$number = $node->safe_psql('postgres', q{SELECT concat_ws(', ', quote_literal(xact), id) FROM contactsync.queue});
	$node->stop;
	$node->start;
	change('paper', q{SELECT contactsync_resume('paper')});
	return ($number, grep { $_->{method} eq 'POST' && $_->{path} =~ /contacts/ && $_->{body} =~ /"c9"/ } @{ $sandbox->journal('spotzee', account => 'paper') });
}

sub key_of { my ($header) = grep { lc $_->[0] eq 'idempotency-key' } @{ $_[0]{headers} }; return $header->[1]; }

my ($number) = create_by();
is(contact('paper', 'c9'), 'Zoe z@example.com', 'a contact is created');
change('paper', q{DELETE FROM paper WHERE id = 9});
wait_for('the contact to go', sub { contact('paper', 'c9') eq 'nobody' });
my ($same, @posts) = create_by($number);
is($same, $number, 'a change has the number of an earlier one');
is(scalar(@posts), 2, 'the contact is sent twice');
is($posts[0]{body}, $posts[1]{body}, 'with the same body');
isnt(key_of($posts[0]), key_of($posts[1]), 'but with different keys');
like(contact('paper', 'c9'), qr/^Zoe z\@example.com/, 'so that it is created again, not answered from memory');

# a contact that was there before is updated for a row that is withheld; the answer is lost, and the row goes
older('paper', 'c50', 'u@example.com');
$sandbox->fault('spotzee', { match => { account => 'paper', method => 'POST' }, effect => 'after', action => { stall => JSON::PP::true } });
sql(q{INSERT INTO paper VALUES (50, 'c50', 'u@example.com', 'Una', NULL)});
wait_for('an update', sub { contact('paper', 'c50') =~ /^Una/ });
sql(q{DELETE FROM paper WHERE id = 50});
$node->stop;
$node->start;
change('paper', 'SELECT');
is(contact('paper', 'c50'), 'nobody', 'a contact that was updated for a row that is withheld goes with it, although the answer was lost');

# a contact is deleted, the answer is lost in a crash, and its row is there again: whether Spotzee has the contact is not known
sub delete_and_return
{
	my ($id, $wants) = @_;

	change('paper', qq{INSERT INTO paper VALUES ($id, 'c$id', 'd$id\@example.com', 'Del', true)});
	like(contact('paper', "c$id"), qr/^Del/, 'a contact is there');
	$sandbox->fault('spotzee', { match => { account => 'paper', method => 'DELETE' }, effect => 'after', action => { stall => JSON::PP::true } });
	sql(qq{DELETE FROM paper WHERE id = $id});
	wait_for('the contact to go', sub { contact('paper', "c$id") eq 'nobody' });
	sql(qq{INSERT INTO paper VALUES ($id, 'c$id', 'd$id\@example.com', 'Del', $wants)});
	$node->stop('immediate');
	$node->start;
	my $calls = change('paper', 'SELECT');
	is(contact('paper', "c$id"), 'nobody', "a contact whose deletion was lost in a crash is not created again for a row that says $wants");
	unlike($calls, qr/POST/, '... not for a moment either');
	return;
}

delete_and_return(60, 'false');
delete_and_return(61, 'NULL');
delete_and_return(62, 'true');
is(change('paper', q{UPDATE paper SET wants = true WHERE id = 60}), 'POST contacts 200', '... but by a word');
change('paper', q{DELETE FROM paper WHERE id IN (60, 61, 62)});

# without a subscription
foreach my $case ([ 'kept', 'keep' ], [ 'deleted', 'delete' ])
{
	my ($name, $on_opt_out) = @$case;

	prepare($name, on_opt_out => $on_opt_out, api => 'users');
	change($name, qq{INSERT INTO $name VALUES (1, 'c1', 'a\@example.com', 'Ann', true)});
	is(contact($name, 'c1'), 'Ann a@example.com', "$on_opt_out: a consent creates the contact");
	change($name, qq{UPDATE $name SET wants = NULL});
	is(contact($name, 'c1'), 'Ann a@example.com', "$on_opt_out: null says nothing");
	change($name, qq{UPDATE $name SET wants = false, name = 'Anna'});
	is(contact($name, 'c1'), $on_opt_out eq 'keep' ? 'Anna a@example.com' : 'nobody', "$on_opt_out: an opt-out");
	change($name, qq{UPDATE $name SET wants = true, name = 'Ann'});
	is(contact($name, 'c1'), 'Ann a@example.com', "$on_opt_out: a new consent");
	change($name, qq{UPDATE $name SET wants = false, email = 'b\@example.com'});
	is(contact($name, 'c1'), $on_opt_out eq 'keep' ? 'Ann a@example.com' : 'nobody', "$on_opt_out: nobody is mailed at a new address after an opt-out");

	# a contact that somebody else created, and whose row says no
	older($name, 'c2', 'c@example.com');
	change($name, qq{INSERT INTO $name VALUES (2, 'c2', 'c\@example.com', 'Cid', NULL)});
	like(contact($name, 'c2'), qr/ c\@example.com$/, "$on_opt_out: a contact that was there, of a row that says null, stays");
	older($name, 'c3', 'd@example.com');
	change($name, qq{INSERT INTO $name VALUES (3, 'c3', 'd\@example.com', 'Dan', false)});
	like(contact($name, 'c3'), $on_opt_out eq 'keep' ? qr/ d\@example.com$/ : qr/^nobody$/, "$on_opt_out: ... and of one that says no");
	is(sql(qq{SELECT count(*) FROM contactsync.failures WHERE server = '$name'}), 0, "$on_opt_out: nothing fails");
}

# without a subscription nothing but the address keeps a contact from being mailed
change('kept', q{INSERT INTO kept VALUES (10, 'c10', 'v1@example.com', 'Vic', true)});
change('kept', q{UPDATE kept SET email = 'v2@example.com' WHERE id = 10});
change('kept', q{INSERT INTO kept VALUES (11, 'c10', 'v2@example.com', 'Val', false)});
change('kept', q{UPDATE kept SET email = 'v1@example.com' WHERE id IN (10, 11)});
like(contact('kept', 'c10'), qr/ v2\@example.com$/, 'a contact gets no address for which another row says no at the same time');
change('kept', q{UPDATE kept SET name = 'Vic 2' WHERE id = 10});
is(contact('kept', 'c10'), 'Vic 2 v2@example.com', '... nor later');
sub refused { return $node->safe_psql('postgres', q{SELECT refused = hashtextextended('v1@example.com', 0) FROM contactsync.contact WHERE upsert_key = 'c10'}) }
is(refused(), 't', 'a hash of the address that it does not get is stored');
sql(q{SET client_min_messages = error; SELECT contactsync_forget('v1@example.com')});
is(refused(), '', '... until the address is forgotten');

# a contact that keeps its address gets the new one when another row of that consents
change('kept', q{INSERT INTO kept VALUES (30, 'c30', 'q1@example.com', 'Quin', true), (31, 'c31', 'q2@example.com', 'Quentin', false)});
change('kept', q{UPDATE kept SET email = 'q2@example.com' WHERE id = 30});
is(contact('kept', 'c30'), 'Quin q1@example.com', 'a contact does not get an address whose row says no');
change('kept', q{UPDATE kept SET wants = true WHERE id = 31});
is(contact('kept', 'c31'), 'Quentin q2@example.com', 'when that row says yes');
is(contact('kept', 'c30'), 'Quin q2@example.com', '... the contact gets the address, too');

# ... and when the answer to the call that gave it one was lost, that is not taken back for a row that says no meanwhile
change('kept', q{INSERT INTO kept VALUES (40, 'c40', 'o1@example.com', 'Olga', true)});
$sandbox->fault('spotzee', { match => { account => 'kept' }, effect => 'after', action => { status => 500, stall => \1 } });
my $calls = @{ $sandbox->journal('spotzee', account => 'kept') };
sql(q{UPDATE kept SET email = 'o2@example.com' WHERE id = 40});
$sandbox->wait_for_journal('spotzee', sub { grep({ $_->{account} eq 'kept' } @_) > $calls });
sql(q{UPDATE kept SET wants = false, name = 'Olga2' WHERE id = 40});
$sandbox->clear_faults('spotzee');
change('kept', 'SELECT 1');
is(contact('kept', 'c40'), 'Olga2 o2@example.com', 'an address that a contact may have got already is not taken back, which would subscribe it again');

# what Spotzee has is not trusted: who said no is not created
change('kept', q{INSERT INTO kept VALUES (20, 'c20', 'w@example.com', 'Will', true), (21, 'c21', 'w2@example.com', 'Wanda', true), (22, 'c22', 'w3@example.com', 'Wes', true)});
change('kept', q{UPDATE kept SET wants = false WHERE id = 20});
change('kept', q{INSERT INTO kept VALUES (23, 'c23', 'w4@example.com', 'No', false)});
change('kept', q{UPDATE kept SET email = 'w4@example.com' WHERE id = 21});
is(contact('kept', 'c21'), 'Wanda w2@example.com', 'a contact keeps its address');
$sandbox->call('DELETE', 'spotzee/contacts', undef, account => 'kept', email => "$_\@example.com") foreach qw(w w2 w3);
change('kept', q{SELECT contactsync_mark_stale('kept'), contactsync_reconcile('kept', 'kept')});
is(contact('kept', 'c20'), 'nobody', 'a contact that Spotzee has lost is not created again for a row that says no');
is(contact('kept', 'c21'), 'nobody', '... nor at an address that its row does not have');
is(contact('kept', 'c22'), 'Wes w3@example.com', '... but for one that says yes as before');

# which API there is is not known any more when an option was changed
prepare('auto');
$sandbox->config('spotzee', { account => 'auto', paths => 'users' });
is(change('auto', q{INSERT INTO auto VALUES (1, 'c1', 'a@example.com', 'Ann', false)}), 'GET contacts/c1 404, GET users/c1 404', 'a contact is looked up in both APIs');
is(change('auto', q{UPDATE auto SET wants = true}), 'POST contacts 404, POST users 200', 'it is created in the one that there is');
unlike(change('auto', q{ALTER SERVER auto OPTIONS (ADD timeout '60s'); DELETE FROM auto}), qr/GET/, 'a deletion');
wait_for('the contact to go', sub { contact('auto', 'c1') eq 'nobody' });
pass('is also tried in both');

# consent was claimed for the person by the creation of one contact
prepare('secondid');
change('secondid', q{INSERT INTO secondid VALUES (1, 'c1', 'a@example.com', 'Ann', true)});
is(contact('secondid', 'c1'), 'Ann a@example.com', 'a person is created');
change('secondid', q{INSERT INTO secondid VALUES (2, 'c2', 'a@example.com', 'Ann', true)});
is(contact('secondid', 'c2'), 'nobody', '... and not under another ID as well');

# a row that was withheld, and has not changed since, does not speak for the contact that another row has made since
change('kept', q{INSERT INTO kept VALUES (50, 'c50', 'v50@example.com', 'New', false), (51, 'c50', 'v50@example.com', 'Old', false)});
change('kept', q{SELECT contactsync_mark_stale('kept')});
change('kept', q{UPDATE kept SET wants = true WHERE id = 50});
is(contact('kept', 'c50'), 'New v50@example.com', 'a row that says yes makes a contact that was withheld');
change('kept', q{BEGIN; UPDATE kept SET name = 'other' WHERE id = 51; UPDATE kept SET name = 'Old' WHERE id = 51; COMMIT});
is(contact('kept', 'c50'), 'New v50@example.com', 'another one does not speak for it that has not changed, although nothing is trusted any more');

# of the rows of a contact that is withheld, the one that changed last speaks when another one makes the contact, whichever was read first
my $id = 70;
foreach my $wants ('NULL', 'false')
{
	foreach my $turn ('in turn', 'at once')
	{
		my ($first, $second) = ($id++, $id++);

		change('kept', qq{INSERT INTO kept VALUES ($first, 'c$first', 'n$first\@example.com', 'One', $wants), ($second, 'c$first', 'n$first\@example.com', 'Two', false)});
		sql(q{SELECT contactsync_pause('kept')}) if $turn eq 'at once';
		foreach my $sql ("UPDATE kept SET name = 'One 1' WHERE id = $first", "UPDATE kept SET wants = true WHERE id = $second", "UPDATE kept SET name = 'One 2' WHERE id = $first")
		{
			sql($sql);
			sql(q{CALL contactsync_wait('kept')}) if $turn eq 'in turn';
		}
		change('kept', q{SELECT contactsync_resume('kept')}) if $turn eq 'at once';
		is(contact('kept', "c$first"), "One 2 n$first\@example.com", "$wants, $turn: a withheld row that changed last speaks for the contact that another one made");
		change('kept', qq{UPDATE kept SET name = 'Two 2' WHERE id = $second});
		is(contact('kept', "c$first"), "Two 2 n$first\@example.com", '... until that changes');
	}
}

# a new row says yes at an address where a row said no; before its call has an answer, it gets the address of a person who opted out
create_server($node, $sandbox, 'spotzee', account => 'turning', role => 'shop', server => { pace => 500, burst => 50, account => 'turning', subscription_id => 5, api => 'contacts' });
sql(q{
	CREATE TABLE turning (id int PRIMARY KEY, customer text, email text, name text, wants boolean);
	SELECT contactsync_watch('turning', 'turning', '{"external_id": "customer", "email": "email", "first_name": "name", "opt_in": "wants"}')});
foreach my $case ('', 'crash')
{
	my ($id, $first, $second) = map { "$_$case" } 't', 't1', 't2';

	change('turning', qq{INSERT INTO turning VALUES (1, '$id', '$first\@example.com', 'Tim', false)});
	change('turning', qq{UPDATE turning SET email = '$second\@example.com', wants = true});
	is(contact('turning', $id), "Tim $second\@example.com", 'a person is subscribed at the second address');
	change('turning', 'DELETE FROM turning');
	act('turning', 'opt_out', "$second\@example.com");
	is(contact('turning', $id), "Tim $second\@example.com 0", 'and opts out');
	my $since = @{ $sandbox->journal('spotzee', account => 'turning') };
	$sandbox->fault('spotzee', { match => { account => 'turning', email => "$first\@example.com" }, times => undef, action => { status => 503 } });
	sql(qq{INSERT INTO turning VALUES (2, '$id', '$first\@example.com', 'Tom', true)});
	$sandbox->wait_for_journal('spotzee', sub { grep { $_->{account} eq 'turning' && ($_->{body} // '') =~ /Tom/ && !$_->{in_flight} } @_ });
	if ($case)
	{
		flush_wal($node);
		crash_worker($node, 'postgres');
	}
	sql(qq{UPDATE turning SET email = '$second\@example.com'});
	sql(q{CALL contactsync_wait('turning')});
	$sandbox->clear_faults('spotzee', account => 'turning');
	is(contact('turning', $id), "Tom $second\@example.com 0",
		$case ? '... also after a crash' : 'a word at one address is none at another one that the row gets meanwhile');
	change('turning', 'DELETE FROM turning');
}

# a word that comes together with another address, and with another row, is missed: the contact is held, which is not to be subscribed
change('turning', q{INSERT INTO turning VALUES (5, 'u', 'u1@example.com', 'Una', true)});
change('turning', q{UPDATE turning SET wants = false});
is(contact('turning', 'u'), 'Una u1@example.com 0', 'a consent is withdrawn');
sql($_) foreach q{SELECT contactsync_pause('turning')}, q{DELETE FROM turning}, q{INSERT INTO turning VALUES (6, 'u', 'u1@example.com', 'Una', false)},
  q{UPDATE turning SET email = 'u2@example.com', wants = true};
change('turning', q{SELECT contactsync_resume('turning')});
is(contact('turning', 'u') . ' ' . sql(q{SELECT consent FROM contactsync.contacts WHERE upsert_key = 'u'}), 'Una u2@example.com 0 held', 'a word that comes with another address and another row is missed, and said to be held');
change('turning', q{SELECT contactsync_import('turning', 'turning', claims => 'all')});
is(contact('turning', 'u') . ' ' . sql(q{SELECT consent FROM contactsync.contacts WHERE upsert_key = 'u'}), 'Una u2@example.com 1 claimed', '... and claimed if you say so');

$node->stop;
done_testing();
