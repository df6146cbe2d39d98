# Owlat from end to end: create, after a conflict update, then join the topic; changes that people made there are not undone.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $topic = 'topicsingle000000000000000000000';
my $sandbox = start_sandbox();
my $node = start_node();

create_server($node, $sandbox, 'owlat', account => 'owltest', server => { topic_id => $topic, pace => 500, burst => 50 });
$sandbox->config('owlat',
	{ account => 'owltest', topics => { $topic => { double_opt_in => JSON::PP::false } } });

my $seen = 0;

# Return the requests since the last call of this function, as lines.
sub requests
{
	my @journal = grep { $_->{seq} > $seen } @{ $sandbox->journal('owlat', account => 'owltest') };

	$seen = $journal[-1]{seq} if @journal;
	return join("\n", map { "$_->{method} $_->{path} $_->{status}" =~ s{/(owlat/)?api/v1}{}r =~ s{%40}{@}r } @journal);
}

sub change
{
	my ($sql) = @_;

	$node->safe_psql('postgres', "$sql; CALL contactsync_wait('owltest')");
	return requests();
}

sub contact
{
	my ($email) = @_;
	my ($contact) = grep { $_->{email} eq $email } @{ $sandbox->contacts('owlat', account => 'owltest') };

	return $contact;
}

$node->safe_psql(
	'postgres', q{
	CREATE TABLE people (id int PRIMARY KEY, email text, first_name text, last_name text, wants boolean);
	SELECT contactsync_watch('people', 'owltest',
		'{"email": "email", "first_name": "first_name", "last_name": "last_name", "opt_in": "wants"}', on_delete => 'delete', delete_delay => '0');
});

is(change("INSERT INTO people VALUES (1, ' Mira\@Acme.io', 'Mira', 'Chen', true)"),
	"POST /contacts 201\nPOST /topics/$topic/contacts 201", 'a contact is created, then added to the topic');
is(contact('mira@acme.io')->{firstName}, 'Mira', 'the name arrives');
is_deeply([ keys %{ contact('mira@acme.io')->{topics} } ], [$topic], 'the contact is in the topic');

is(change("UPDATE people SET first_name = 'Myra'"), 'PUT /contacts/mira@acme.io 200', 'a known contact is updated directly, and does not join the topic again');

# the person leaves the topic at Owlat, and opts out globally
$sandbox->call('POST', 'owlat/contacts',
	{ account => 'owltest', contacts => [ { email => 'mira@acme.io', topics => {}, unsubscribedAt => '2024-01-01T00:00:00Z' } ] });
change("UPDATE people SET last_name = 'Chan'");
is(contact('mira@acme.io')->{lastName}, 'Chan', 'a later change arrives');
is_deeply(contact('mira@acme.io')->{topics}, {}, 'the change does not join the topic again');
ok(contact('mira@acme.io')->{unsubscribedAt}, 'the change does not lift the opt-out');

# the application records an opt-out, and later a new opt-in: both are decisions of the person
like(change('UPDATE people SET wants = false'), qr{^PUT .* 200\nDELETE /topics/$topic/contacts/mira\@acme\.io 200$}, 'an opt-out leaves the topic');
like(change('UPDATE people SET wants = true'), qr{^PUT .* 200\nPOST /topics/$topic/contacts 201$}, 'an opt-in joins the topic again');

# a contact that already exists
$sandbox->call('POST', 'owlat/contacts', { account => 'owltest', contacts => [ { email => 'joe@acme.io', firstName => 'Joe' } ] });
is(change("INSERT INTO people VALUES (2, 'joe\@acme.io', 'Joseph', NULL, true)"),
	"POST /contacts 409\nGET /contacts/joe\@acme.io 200\nPUT /contacts/joe\@acme.io 200",
	'a conflict is followed by an update; somebody who was there before does not join the topic');
is(contact('joe@acme.io')->{firstName}, 'Joseph', 'the update arrives');

# who did not consent
is(change("INSERT INTO people VALUES (4, 'kim\@acme.io', 'Kim', NULL, NULL), (5, 'lee\@acme.io', 'Lee', NULL, false)"),
	"PUT /contacts/kim\@acme.io 404\nPUT /contacts/lee\@acme.io 404", 'who did not consent is not created');
is($node->safe_psql('postgres', q{SELECT count(*) FROM contactsync.source_row WHERE withheld}), 2, 'these rows are withheld');
is(change("UPDATE people SET id = 6 WHERE id = 4"), 'PUT /contacts/kim@acme.io 404', 'nor is a row with another key');
is(change("UPDATE people SET wants = wants WHERE id IN (5, 6)"), '', 'what did not change is not sent again');
is(change(q{SELECT contactsync_upsert('owltest', '{"email": "kim@acme.io", "first_name": "K"}'), contactsync_upsert('owltest', '{"email": "lee@acme.io", "first_name": "L"}')}),
	"PUT /contacts/kim\@acme.io 404\nPUT /contacts/lee\@acme.io 404", 'contactsync_upsert() without opt_in creates nobody whose row does not say true');
$sandbox->call('POST', 'owlat/contacts', { account => 'owltest', contacts => [ { email => 'pat@acme.io', firstName => 'Pat', topics => { $topic => 'not_required' } } ] });
is(change("INSERT INTO people VALUES (7, 'pat\@acme.io', 'Patricia', NULL, false)"),
	"PUT /contacts/pat\@acme.io 200\nDELETE /topics/$topic/contacts/pat\@acme.io 200", 'where it exists, it is updated, and leaves the topic');
is(change("UPDATE people SET first_name = 'Pat' WHERE id = 7"), "PUT /contacts/pat\@acme.io 200\nDELETE /topics/$topic/contacts/pat\@acme.io 200", '... again when it changes');

# a contact that was deleted there
$sandbox->call('DELETE', 'owlat/contacts', undef, account => 'owltest', email => 'joe@acme.io');
is(change("UPDATE people SET first_name = 'Jo' WHERE id = 2"), 'PUT /contacts/joe@acme.io 404', 'a contact that was deleted there is not created again');
is(change("UPDATE people SET first_name = 'Joe' WHERE id = 2"), 'PUT /contacts/joe@acme.io 404', '... by another change either');
change("UPDATE people SET wants = false WHERE id = 2");
is(change("UPDATE people SET wants = true WHERE id = 2"), "POST /contacts 201\nPOST /topics/$topic/contacts 201", '... but by a word of the person');

# the answer to a creation is lost
my $create = { account => 'owltest', method => 'POST', path => '*/v1/contacts' };
sub lose_answer { $sandbox->fault('owlat', { match => $create, effect => 'after', action => { reset => 'before' } }) }
lose_answer();
is(change("INSERT INTO people VALUES (8, 'ann\@acme.io', 'Ann', NULL, true)"),
	"POST /contacts 201\nPOST /contacts 409\nGET /contacts/ann\@acme.io 200\nPUT /contacts/ann\@acme.io 200\nPOST /topics/$topic/contacts 201",
	'a contact that turns out to be new joins, although the answer was lost');
$sandbox->call('POST', 'owlat/contacts', { account => 'owltest', contacts => [ { email => 'zoe@acme.io', firstName => 'Zoe', unsubscribedAt => '2024-01-01T00:00:00Z' } ] });
lose_answer();
change("INSERT INTO people VALUES (9, 'zoe\@acme.io', 'Zoe', NULL, true)");
ok(contact('zoe@acme.io')->{unsubscribedAt}, 'one that existed before does not');

is(change('DELETE FROM people WHERE id = 2'), 'DELETE /contacts/joe@acme.io 200', 'a deleted row deletes the contact');
is($node->safe_psql('postgres', 'SELECT count(*) FROM contactsync.failures'), '0', 'no contact fails');

# another topic is joined by a new word of the person, once; after a change back the first topic is not joined again
my $other = 'topicdouble000000000000000000000';
my $topics = q{SELECT array_to_string(topics, ' '), error FROM contactsync.contacts WHERE key = '1'};
is($node->safe_psql('postgres', $topics), "$topic|", 'the joined topic is stored');
$sandbox->config('owlat', { account => 'owltest', topics => { $topic => { double_opt_in => JSON::PP::false }, $other => { double_opt_in => JSON::PP::true } } });
$node->safe_psql('postgres', "ALTER SERVER owltest OPTIONS (SET topic_id '$other')");
is(change("UPDATE people SET first_name = 'Mia' WHERE id = 1"), 'PUT /contacts/mira@acme.io 200', 'a change without a word does not join another topic');
change('UPDATE people SET wants = false WHERE id = 1');
is(change('UPDATE people SET wants = true WHERE id = 1'), "PUT /contacts/mira\@acme.io 200\nPOST /topics/$other/contacts 201", 'a contact joins another topic by a new word');
is($node->safe_psql('postgres', $topics), "$topic $other|topic: Owlat asked the person for a confirmation", 'the confirmation mail is noted');
is(change("UPDATE people SET first_name = 'Mira' WHERE id = 1"), 'PUT /contacts/mira@acme.io 200', 'a contact joins the topic only once');
$node->safe_psql('postgres', "ALTER SERVER owltest OPTIONS (SET topic_id '$topic')");
is(change("UPDATE people SET first_name = 'Myra' WHERE id = 1"), 'PUT /contacts/mira@acme.io 200', 'a contact does not join the first topic again');
is(scalar(grep { $_->{kind} eq 'confirmation_mail_sent' } @{ $sandbox->events('owlat', account => 'owltest') }), 1, 'only one confirmation mail was sent');

# a topic that was deleted halts the server, and nothing is lost
$sandbox->config('owlat', { account => 'owltest', topics => { $topic => { double_opt_in => JSON::PP::false }, topicmissing00000000000000000000 => undef } });
$node->safe_psql('postgres', q{ALTER SERVER owltest OPTIONS (SET topic_id 'topicmissing00000000000000000000')});
change(q{INSERT INTO people VALUES (3, 'ada@acme.io', 'Ada', NULL, false)});
$node->safe_psql('postgres', q{UPDATE people SET wants = true WHERE id = 3});
$node->poll_query_until('postgres', q{SELECT bool_and(state = 'halted' AND reason LIKE 'unknown_topic%') FROM contactsync.status}) or die 'timed out waiting for the halt';
is($node->safe_psql('postgres', 'SELECT count(*) FROM contactsync.failures'), '0', 'an unknown topic causes no failure');
$node->safe_psql('postgres', "ALTER SERVER owltest OPTIONS (SET topic_id '$topic'); CALL contactsync_wait('owltest')");
is_deeply([ keys %{ contact('ada@acme.io')->{topics} } ], [$topic], 'delivery resumes when the option is corrected');

# on_opt_out 'delete', of contacts that were there before
sub add { $sandbox->call('POST', 'owlat/contacts', { account => 'owltest', contacts => [ { email => "$_[0]\@acme.io", firstName => 'Old', topics => { $topic => 'not_required' } } ] }) }
$node->safe_psql('postgres', q{ALTER SERVER owltest OPTIONS (ADD on_opt_out 'delete')});
add($_) foreach qw(gus ian);
requests();
like(change(q{INSERT INTO people VALUES (40, 'gus@acme.io', 'Gus', NULL, true)}), qr{^POST /contacts 409\nGET /contacts/gus\@acme\.io 200\nPUT}, 'a contact that was there before is looked up');
is(change('UPDATE people SET wants = false WHERE id = 40'), 'DELETE /contacts/gus@acme.io 200', "it is deleted with on_opt_out 'delete' when its row says no");
is(change(q{UPDATE people SET first_name = 'G' WHERE id = 40}), 'PUT /contacts/gus@acme.io 404', 'and not created again');
is(change(q{INSERT INTO people VALUES (41, 'ian@acme.io', 'Ian', NULL, false)}),
	"PUT /contacts/ian\@acme.io 200\nDELETE /topics/$topic/contacts/ian\@acme.io 200", 'one whose row says no from the beginning leaves the topic');
is(change(q{UPDATE people SET first_name = 'I' WHERE id = 41}), 'DELETE /contacts/ian@acme.io 200', '... and is deleted with the next change of the row');
is($node->safe_psql('postgres', q{SELECT count(*) FROM contactsync.failures}), 0, 'nothing fails');

# Owlat repeats the address of a contact that it does not find, which can have any word in it
$node->safe_psql('postgres', q{SELECT contactsync_unwatch('people', 'owltest');
	CREATE TABLE leavers (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('leavers', 'owltest', '{"email": "email"}', on_delete => 'unsubscribe', delete_delay => '0')});
change(q{INSERT INTO leavers VALUES (1, 'topics@acme.io'), (2, 'hot.topics@acme.io'), (3, 'ned@acme.io')});
$sandbox->call('DELETE', 'owlat/contacts', undef, account => 'owltest', email => $_) foreach qw(topics@acme.io hot.topics@acme.io);
is(join(' ', sort split(/\n/, change('DELETE FROM leavers'))), join(' ', map { "DELETE /topics/$topic/contacts/$_\@acme.io" . ($_ eq 'ned' ? ' 200' : ' 404') } qw(hot.topics ned topics)),
	'a contact that is not there need not leave the topic, whatever its address is');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT state, ' ') FROM contactsync.status WHERE server = 'owltest'}), 'idle', 'the server is not halted');

done_testing();
