# What is remembered of consent at Owlat when the contact has another address, or was never created: it belongs to the address.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $topic = 'topicsingle000000000000000000000';
my $sandbox = start_sandbox();
my $node = start_node();

create_server($node, $sandbox, 'owlat', account => 'owltest', server => { topic_id => $topic, on_email_change => 'follow', pace => 500, burst => 50 });
$sandbox->config('owlat', { account => 'owltest', topics => { $topic => { double_opt_in => JSON::PP::false } } });

my $seen = 0;

# Run it, and return the requests that it makes, as lines.
sub change
{
	my ($sql) = @_;

	$node->safe_psql('postgres', "$sql; CALL contactsync_wait('owltest')");
	my @journal = grep { $_->{seq} > $seen } @{ $sandbox->journal('owlat', account => 'owltest') };
	$seen = $journal[-1]{seq} if @journal;
	return join("\n", map { "$_->{method} $_->{path} $_->{status}" =~ s{/(owlat/)?api/v1}{}r =~ s{%40}{@}r =~ s{contact0\d+}{ID}r } @journal);
}

sub upsert { return change(qq{SELECT contactsync_upsert('owltest', '{"email": "$_[0]\@acme.io", "first_name": "U"}')}); }

my $watch = q{SELECT contactsync_watch('%s', 'owltest', '{"email": "email", "first_name": "name", "opt_in": "wants"}', on_delete => 'delete', delete_delay => '0')};
$node->safe_psql('postgres', "CREATE TABLE $_ (id int PRIMARY KEY, email text, name text, wants boolean); " . sprintf($watch, $_)) foreach qw(people others);

# a contact gets another address, and then another row the first one
change(q{INSERT INTO people VALUES (1, 'ann@acme.io', 'Ann', true), (2, 'ben@acme.io', 'Ben', true)});
$sandbox->call('POST', 'owlat/people', { account => 'owltest', email => 'ann@acme.io', act => 'opt_out' });
is(change(q{UPDATE people SET email = 'anna@acme.io' WHERE id = 1}), 'PUT /contacts/ID 200', 'a contact gets another address');
is(change(q{DELETE FROM people WHERE id = 1}), 'DELETE /contacts/anna@acme.io 200', 'and is deleted with its row');
change(q{INSERT INTO people VALUES (3, 'ann@acme.io', 'Ann', NULL)});
is(change(q{UPDATE people SET wants = true WHERE id = 3}), 'PUT /contacts/ann@acme.io 404', 'a row with the first address, whose null becomes true, is no word: the consent was claimed before');
change(q{UPDATE people SET wants = false WHERE id = 3});
is(change(q{UPDATE people SET wants = true WHERE id = 3}), "POST /contacts 201\nPOST /topics/$topic/contacts 201", '... but false that becomes true is');
change(q{UPDATE people SET email = 'benny@acme.io' WHERE id = 2});
is(change(q{INSERT INTO people VALUES (4, 'ben@acme.io', 'Ben', true)}), 'PUT /contacts/ben@acme.io 404', 'nor is a new row that says true');
is(change(q{DELETE FROM people WHERE id = 4; UPDATE people SET email = 'ben@acme.io' WHERE id = 2}), 'PUT /contacts/ID 200', 'the contact moves back');
is($node->safe_psql('postgres', q{SELECT count(*) FROM contactsync.failures}), 0, 'nothing fails');
change(q{INSERT INTO people VALUES (5, 'cal@acme.io', 'Cal', false), (6, 'dot@acme.io', 'Dot', true)});
change(q{DELETE FROM people WHERE id = 5});
is(change(q{UPDATE people SET email = 'cal@acme.io' WHERE id = 6}), "PUT /contacts/cal\@acme.io 404\nDELETE /contacts/dot\@acme.io 200", 'no contact gets the address of somebody who said no');

# a move whose answer was lost, of a contact that has nothing but an address
$node->safe_psql('postgres', q{
	CREATE TABLE plain (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('plain', 'owltest', '{"email": "email"}');
	INSERT INTO plain VALUES (1, 'eve@acme.io'); CALL contactsync_wait('owltest')});
$node->safe_psql('postgres', q{UPDATE contactsync.contact SET remote_id = NULL WHERE upsert_key = 'eve@acme.io'});
$sandbox->fault('owlat', { match => { account => 'owltest', method => 'PUT' }, effect => 'after', action => { reset => 'before' } });
like(change(q{UPDATE plain SET email = 'eva@acme.io'}), qr{^PUT /contacts/eve\@acme.io 404\nPUT /contacts/eva\@acme.io 200$}m, 'a move that is repeated finds the contact at the new address');
is(scalar(grep { $_->{email} eq 'eva@acme.io' } @{ $sandbox->contacts('owlat', account => 'owltest') }), 1, 'a move that is repeated makes no second contact');

# who said no, and was not created, is known to have said no when the row has gone
change(q{INSERT INTO people VALUES (10, 'kim@acme.io', 'Kim', false), (11, 'lee@acme.io', 'Lee', false), (12, 'max@acme.io', 'Max', false), (13, 'ned@acme.io', 'Ned', false)});
change(q{DELETE FROM people WHERE id = 10});
is(upsert('kim'), 'PUT /contacts/kim@acme.io 404', 'contactsync_upsert() without opt_in creates nobody whose row said no before it went');
is(change(q{INSERT INTO others VALUES (1, 'lee@acme.io', 'Lee', true)}), 'PUT /contacts/lee@acme.io 404', 'another row creates nobody while one says no');
change(q{UPDATE people SET email = 'maxi@acme.io' WHERE id = 12});
is(upsert('max'), 'PUT /contacts/max@acme.io 404', '... nor whose row has another address');
change(q{SELECT contactsync_unwatch('people', 'owltest')});
is(upsert('ned'), 'PUT /contacts/ned@acme.io 404', '... nor whose row is not watched any more');
change(q{UPDATE others SET wants = false});
is(change(q{UPDATE others SET wants = true}),
	"POST /contacts 201\nPOST /topics/$topic/contacts 201", 'a word creates the contact');

# a contact gets the address of a row that is withheld, and everything is sent again
$node->safe_psql('postgres', sprintf($watch, 'people'));
change(q{SELECT contactsync_import('people', 'owltest', automations => 'accepted')});
change(q{INSERT INTO people VALUES (20, 'quin@acme.io', 'Quin', true), (21, 'rob@acme.io', 'Rob', true)});
change(q{DELETE FROM people WHERE id = 20});
is(change(q{INSERT INTO people VALUES (22, 'quin@acme.io', 'Quinn', true)}), 'PUT /contacts/quin@acme.io 404', 'who was removed is withheld without a word');
is(change(q{UPDATE people SET email = 'quin@acme.io' WHERE id = 21}), 'PUT /contacts/ID 200', 'a contact gets the address');
change(q{SELECT contactsync_mark_stale('owltest')});
unlike(change(q{SELECT contactsync_reconcile('people', 'owltest', automations => 'accepted')}), qr{quin.*quin}s, 'the row that was withheld leaves it to the one that speaks');
is_deeply([ map { $_->{firstName} } grep { $_->{email} eq 'quin@acme.io' } @{ $sandbox->contacts('owlat', account => 'owltest') } ], ['Rob'], 'which is sent');

# true, null, true is no change, although the server is made again
change(q{INSERT INTO people VALUES (30, 'tom@acme.io', 'Tom', true)});
change(q{UPDATE people SET wants = NULL WHERE id = 30});
$node->safe_psql('postgres', q{SELECT contactsync_unwatch('people', 'owltest'), contactsync_unwatch('others', 'owltest'); DROP SERVER owltest CASCADE});
create_server($node, $sandbox, 'owlat', account => 'owltest', server => { topic_id => $topic, on_email_change => 'follow', pace => 500, burst => 50 });
$node->safe_psql('postgres', sprintf($watch, 'people'));
change(q{SELECT contactsync_import('people', 'owltest', automations => 'accepted')});
is(change(q{UPDATE people SET wants = true WHERE id = 30}), 'PUT /contacts/tom@acme.io 200', 'true, null, true is no change for a server that is made again');

# a contact that has moved is not found by creating it, also for a server that is made again
my $timed = q{SELECT contactsync_watch('timed', 'owltest', '{"email": "email", "first_name": "name", "opt_in": "wants", "opt_in_at": "at"}')};
$node->safe_psql('postgres', "CREATE TABLE timed (id int PRIMARY KEY, email text, name text, wants boolean, at timestamptz); $timed");
change(q{INSERT INTO timed VALUES (1, 'una@acme.io', 'Una', true, '2026-01-01')});
is(change(q{UPDATE timed SET email = 'uma@acme.io'}), 'PUT /contacts/ID 200', 'a contact moves');
$sandbox->call('POST', 'owlat/people', { account => 'owltest', email => 'yan@acme.io', act => 'opt_in', topic => $topic });
change(q{INSERT INTO timed VALUES (2, 'yan@acme.io', 'Yan', true, NULL)});
is(change(q{UPDATE timed SET email = 'yannick@acme.io' WHERE id = 2}), 'PUT /contacts/ID 200', 'so does one whose consent is held');
$node->safe_psql('postgres', q{SELECT contactsync_unwatch('people', 'owltest'), contactsync_unwatch('timed', 'owltest'); DROP SERVER owltest CASCADE});
create_server($node, $sandbox, 'owlat', account => 'owltest', server => { topic_id => $topic, on_email_change => 'follow', pace => 500, burst => 50 });
$node->safe_psql('postgres', $timed);
is(change(q{UPDATE timed SET name = 'Yann' WHERE id = 2}), 'PUT /contacts/yannick@acme.io 200', 'a server that is made again creates no second contact for that');
is(change(q{UPDATE timed SET at = clock_timestamp() WHERE id = 1}), "PUT /contacts/uma\@acme.io 200\nPOST /topics/$topic/contacts 201", 'a word for it, to a server that is made again, creates no second contact');
is(scalar(grep { $_->{email} eq 'uma@acme.io' } @{ $sandbox->contacts('owlat', account => 'owltest') }), 1, 'there is one contact with the address');
$node->safe_psql('postgres', 'CREATE TABLE deleted (id int PRIMARY KEY, email text, name text, wants boolean); ' . sprintf($watch, 'deleted'));
change(q{SELECT contactsync_unwatch('timed', 'owltest')});

# a contact that was there before is updated for a row that is withheld; the answer is lost, and the row goes
$sandbox->call('POST', 'owlat/people', { account => 'owltest', email => "$_\@acme.io", act => 'opt_in', topic => $topic }) foreach qw(wim xia);
foreach my $lost (0, 1)
{
	my $name = $lost ? 'xia' : 'wim';

	$sandbox->fault('owlat', { match => { account => 'owltest', method => 'PUT' }, effect => 'after', times => 1000, action => { status => 503 } }) if $lost;
	$node->safe_psql('postgres', qq{INSERT INTO deleted VALUES (1, '$name\@acme.io', '\u$name', NULL)});
	wait_for('an update', sub { grep { $_->{email} eq "$name\@acme.io" && ($_->{firstName} // '') eq "\u$name" } @{ $sandbox->contacts('owlat', account => 'owltest') } });
	change(q{CALL contactsync_wait('owltest')}) unless $lost;
	$node->safe_psql('postgres', q{DELETE FROM deleted});
	$sandbox->clear_faults('owlat', account => 'owltest');
	change('SELECT');
	is(scalar(grep { $_->{email} eq "$name\@acme.io" } @{ $sandbox->contacts('owlat', account => 'owltest') }), 0,
		'a contact that was updated for a row that is withheld goes with it' . ($lost ? ', although the answer was lost' : ''));
}

# a row says no while the contact is being created for another one that says yes
$node->safe_psql('postgres', q{
	CREATE TABLE kept (id int PRIMARY KEY, email text, wants boolean);
	SELECT contactsync_watch('kept', 'owltest', '{"email": "email", "opt_in": "wants"}')});
$sandbox->fault('owlat', { match => { account => 'owltest', method => 'POST' }, times => 1, action => { stall => \1 } });
$node->safe_psql('postgres', q{INSERT INTO kept VALUES (1, 'yva@acme.io', true)});
wait_for('the creation to be under way', sub { $node->safe_psql('postgres', 'SELECT bool_or(in_flight > 0) FROM contactsync.status') eq 't' });
$node->safe_psql('postgres', q{INSERT INTO kept VALUES (2, 'yva@acme.io', false), (3, 'zoe@acme.io', true)});
wait_for('what was queued after the no', sub { grep { $_->{email} eq 'zoe@acme.io' } @{ $sandbox->contacts('owlat', account => 'owltest') } });
$sandbox->clear_faults('owlat', account => 'owltest');
change('SELECT');
is(scalar(grep { $_->{email} eq 'yva@acme.io' && %{ $_->{topics} } } @{ $sandbox->contacts('owlat', account => 'owltest') }), 0,
	'a no is delivered that is said while the contact is being created');

# a consent is withdrawn and given again; while that is being sent, the server crashes, and another row takes the place of its row
sub consent_of { return $node->safe_psql('postgres', qq{SELECT consent FROM contactsync.contacts WHERE server = 'owltest' AND upsert_key = '$_[0]\@acme.io'}); }

$node->safe_psql('postgres', 'CREATE TABLE again (id int PRIMARY KEY, email text, name text, wants boolean); ' . sprintf($watch, 'again'));
change(q{INSERT INTO again VALUES (20, 'uma@acme.io', 'Uma', false)});
like(change(q{UPDATE again SET wants = true WHERE id = 20}), qr{POST /topics/$topic/contacts 201$}, 'a row that was withheld turns to true');
is(change(q{UPDATE again SET wants = false WHERE id = 20}), "PUT /contacts/uma\@acme.io 200\nDELETE /topics/$topic/contacts/uma\@acme.io 200", 'it withdraws that');
flush_wal($node);
my $calls = @{ $sandbox->journal('owlat', account => 'owltest') };
$sandbox->fault('owlat', { match => { account => 'owltest', method => 'PUT' }, times => 1, action => { stall => \1 } });
$node->safe_psql('postgres', q{UPDATE again SET wants = true, name = 'Uma 2' WHERE id = 20});
$sandbox->wait_for_journal('owlat', sub { grep({ $_->{account} eq 'owltest' } @_) > $calls });
$node->safe_psql('postgres', q{SELECT contactsync_pause('owltest')});
$node->stop('immediate');
$node->start;
$sandbox->clear_faults('owlat', account => 'owltest');
$node->safe_psql('postgres', $_) foreach q{DELETE FROM again WHERE id = 20}, q{INSERT INTO again VALUES (21, 'uma@acme.io', 'Uma 3', true)};
$seen = $sandbox->journal('owlat', account => 'owltest')->[-1]{seq};
unlike(change(q{SELECT contactsync_resume('owltest')}), qr/POST/, 'a word that may have been carried is not repeated by another row');
is(consent_of('uma'), 'held', '... and said to be held');
like(change(q{SELECT contactsync_import('again', 'owltest', claims => 'all', automations => 'accepted')}), qr{POST /topics/$topic/contacts 201}, '... and claimed if you say so');
is(consent_of('uma'), 'claimed', '... which is shown');

$node->stop;
done_testing();
