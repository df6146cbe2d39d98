# Owlat's limits, counting every request; the effect of refusals; and changes of addresses.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $speed = 5;
my $topic = 'topicsingle000000000000000000000';
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('contactsync.clock_speed' => $speed, 'contactsync.probe_interval' => '1h');

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub journal { return @{ $sandbox->journal('owlat', account => $_[0]) }; }
sub contacts { return @{ $sandbox->contacts('owlat', account => $_[0]) }; }

sub prepare
{
	my ($name, %server) = @_;

	create_server($node, $sandbox, 'owlat', account => $name, server => \%server);
	$sandbox->config('owlat', { account => $name, topics => { $topic => { double_opt_in => \0 } } });
	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, first_name text, verified boolean DEFAULT true);
		SELECT contactsync_watch('$name', '$name', '{"email": "email", "first_name": "first_name"}', filter => 'verified')});
	return;
}

# Change something, wait, and return the requests as lines.
sub change
{
	my ($name, $sql) = @_;
	my $before = journal($name);

	sql("$sql; CALL contactsync_wait('$name')");
	my @journal = journal($name);
	return join("\n", map { "$_->{method} $_->{path} $_->{status}" =~ s{/(owlat/)?api/v1}{}r =~ s{%40}{@}r } @journal[ $before .. $#journal ]);
}

# the limits of the page: ten requests a second for each key, of any kind, and five at a time
# the key of an account begins with its name, and must be long enough
prepare('pacekey', topic_id => $topic);
$sandbox->config('owlat', { account => 'pacekey', limits => { key => { kind => 'bucket', limit => 10, burst => 15 } } });
$sandbox->fault('owlat', { match => { account => 'pacekey' }, times => undef, action => { latency => 1 } });
sql(q{
	INSERT INTO pacekey SELECT n, n || '@example.com', 'N' || n, n <> 7 FROM generate_series(1, 25) n;
	CALL contactsync_wait('pacekey')});
$sandbox->clear_faults('owlat');
my @calls = journal('pacekey');
my $count = $sandbox->count('owlat', account => 'pacekey');
is(scalar @calls, 48, 'a contact and its topic take two requests, and the filter applies');
is($count->{rate_limited}, 0, 'no request is refused');
cmp_ok($count->{max_in_flight}, '<=', 5, 'at most five requests are in flight');
cmp_ok($count->{max_in_flight}, '>', 1, 'requests are concurrent');
my $seconds = $calls[-1]{clock} - $calls[0]{clock};
cmp_ok($seconds, '>=', 0.95 * (48 - 5) / 9.8, "the pace is kept in $seconds s");
is(sql(qq{SELECT count(*) FILTER (WHERE topics \@> '{$topic}'), count(*) FROM contactsync.contacts WHERE server = 'pacekey'}), '24|24', 'topic members are counted');
is(sql(q{SELECT synced, failures FROM contactsync.status WHERE server = 'pacekey'}), '24|0', 'contacts are counted');

is(change('pacekey', 'UPDATE pacekey SET verified = true WHERE id = 7'),
	"POST /contacts 201\nPOST /topics/$topic/contacts 201", 'a row is sent when it begins to pass the filter');
is(change('pacekey', 'UPDATE pacekey SET email = upper(email)'), '', 'an unchanged contact is not sent');

# a pace that is too high; a 429 that says in its body how long to wait
prepare('fastkey', pace => 500, burst => 50);
$sandbox->config('owlat', { account => 'fastkey', retry_after_in => 'data', limits => { key => { kind => 'bucket', limit => 4, burst => 4 } } });
sql(q{INSERT INTO fastkey SELECT n, n || '@example.com', 'N' || n FROM generate_series(1, 12) n; CALL contactsync_wait('fastkey')});
is(scalar contacts('fastkey'), 12, 'all contacts arrive although the key is throttled');
cmp_ok($sandbox->count('owlat', account => 'fastkey')->{rate_limited}, '>', 0, 'the key is throttled');
is(sql(q{SELECT failures FROM contactsync.status WHERE server = 'fastkey'}), '0', 'no contact fails');

# a refusal of the topic does not affect the contact
prepare('topicless', topic_id => $topic, pace => 500, burst => 50);
$sandbox->fault('owlat', { match => { account => 'topicless', path => '*/topics/*' }, action => { status => 422 } });
is(change('topicless', q{INSERT INTO topicless VALUES (1, '1@example.com', 'A')}),
	"POST /contacts 201\nPOST /topics/$topic/contacts 422", 'a topic refuses the contact');
is(sql(q{SELECT error, topics IS NULL FROM contactsync.contacts WHERE server = 'topicless'}), 'topic: Unprocessable Entity|t', 'the refusal is noted with the contact');
is(sql(q{SELECT synced, failures FROM contactsync.status WHERE server = 'topicless'}), '1|0', 'the contact is synced');
is(change('topicless', q{UPDATE topicless SET first_name = 'B'}), 'PUT /contacts/1@example.com 200', 'the next change is not a word, and does not join the topic');
is(change('topicless', q{SELECT contactsync_alter_watch('topicless', 'topicless', claims => 'all'); UPDATE topicless SET first_name = 'C'}),
	"PUT /contacts/1\@example.com 200\nPOST /topics/$topic/contacts 201", "with claims => 'all' it joins the topic");
is(sql(q{SELECT error IS NULL, topics FROM contactsync.contacts WHERE server = 'topicless'}), "t|{$topic}", 'the topic is stored');
$sandbox->fault('owlat', { match => { account => 'topicless', path => '*/topics/*' }, times => 2, action => { status => 503 } });
is(change('topicless', q{INSERT INTO topicless VALUES (2, '2@example.com', 'A')}),
	join("\n", 'POST /contacts 201', map { "POST /topics/$topic/contacts $_" } 503, 503, 201), 'a topic that fails is asked again without the contact');

# refusals of single contacts: only this row fails, and there is no loop
prepare('onebyone', pace => 500, burst => 50);
$sandbox->call('POST', 'owlat/contacts', { account => 'onebyone', contacts => [ { email => '1@example.com' } ] });
$sandbox->fault('owlat', { match => { account => 'onebyone', method => 'PUT' }, action => { status => 409 } });
is(change('onebyone', q{INSERT INTO onebyone VALUES (1, '1@example.com', 'A')}), "POST /contacts 409\nPUT /contacts/1\@example.com 409", 'a conflict of the update is not repeated');
is(sql(q{SELECT key, reason, code FROM contactsync.failures}), '1|conflict|conflict', 'it is a failure');
$sandbox->fault('owlat', { match => { account => 'onebyone', email => '2@example.com' }, action => { status => 400 } });
sql(q{INSERT INTO onebyone SELECT n, n || '@example.com', repeat('x', CASE n WHEN 3 THEN 201 ELSE 200 END) FROM generate_series(2, 5) n; CALL contactsync_wait('onebyone')});
is(sql(q{SELECT key, reason, code, field, message FROM contactsync.failures ORDER BY key OFFSET 1}),
	"2|rejected|invalid_input||Bad Request\n3|invalid_field||first_name|first_name has more than 200 characters", 'other refusals concern one row, too');
is(join(' ', sort map { $_->{email} } contacts('onebyone')), '1@example.com 4@example.com 5@example.com', 'the other contacts arrive');
is(sql(q{SELECT contactsync_retry('onebyone'); CALL contactsync_wait('onebyone'); SELECT string_agg(key, ' ') FROM contactsync.failures}),
	"3\n3", 'failures can be retried');

# refusals of the key: all changes stay queued
foreach my $case (
	[ 'lowplan', { contact_limit => 0 }, { contact_limit => undef }, qr/^quota_exceeded: Owlat refused the request: HTTP status 402: Contact limit reached/ ],
	[ 'noscope', { keys => { 'lm_live_noscope0000000000000000000000000' => { scopes => ['contacts:read'] } } },
		{ keys => { 'lm_live_noscope0000000000000000000000000' => { scopes => [ 'contacts:read', 'contacts:write' ] } } }, qr/^missing_scope: .*contacts:write/ ],
	[ 'revoked', { keys => { 'lm_live_revoked0000000000000000000000000' => { scopes => [], revoked => \1 } } },
		{ keys => { 'lm_live_revoked0000000000000000000000000' => { scopes => ['contacts:write'], revoked => \0 } } }, qr/^unauthorized: Owlat does not accept the API key: Invalid API key$/ ])
{
	my ($name, $bad, $good, $reason) = @$case;

	prepare($name, pace => 500, burst => 50);
	$sandbox->config('owlat', { account => $name, %$bad });
	sql(qq{INSERT INTO $name SELECT n, n || '\@example.com' FROM generate_series(1, 5) n});
	$node->poll_query_until('postgres', qq{SELECT state = 'halted' FROM contactsync.status WHERE server = '$name'}) or die "timed out waiting for the halt: $name";
	like(sql(qq{SELECT reason FROM contactsync.status WHERE server = '$name'}), $reason, "$name: the server halts with the reason");
	is(sql(qq{SELECT backlog, failures FROM contactsync.status WHERE server = '$name'}), '5|0', "$name: all changes stay queued");
	$sandbox->config('owlat', { account => $name, %$good });
	sql(qq{ALTER SERVER $name OPTIONS (SET pace '400'); CALL contactsync_wait('$name')});
	is(scalar contacts($name), 5, "$name: delivery resumes when the error is corrected");
}

# another address is another contact, or the same one, depending on an option
prepare('movedon', topic_id => $topic, pace => 500, burst => 50);
change('movedon', q{INSERT INTO movedon VALUES (1, 'old@example.com', 'A')});
is(change('movedon', q{UPDATE movedon SET email = 'new@example.com'}), "POST /contacts 201\nPOST /topics/$topic/contacts 201", 'a new address is a new contact');
is(join(' ', map { $_->{email} } contacts('movedon')), 'old@example.com new@example.com', 'the previous contact stays');
sql(q{ALTER SERVER movedon OPTIONS (ADD on_email_change 'follow')});
my ($id) = map { $_->{id} } grep { $_->{email} eq 'new@example.com' } contacts('movedon');
is(change('movedon', q{UPDATE movedon SET email = 'newer+1@example.com'}), "PUT /contacts/$id 200", 'with on_email_change the contact gets the address, and does not join the topic again');
is(join(' ', map { $_->{email} } grep { $_->{id} eq $id } contacts('movedon')), 'newer+1@example.com', 'it is the same contact');
is(change('movedon', q{UPDATE movedon SET first_name = 'B'}), 'PUT /contacts/newer%2B1@example.com 200', 'its address is percent-encoded');
$sandbox->call('POST', 'owlat/contacts', { account => 'movedon', contacts => [ { email => 'taken@example.com' } ] });
is(change('movedon', q{UPDATE movedon SET email = 'taken@example.com'}),
	join("\n", "PUT /contacts/$id 409", 'PUT /contacts/taken@example.com 200'),
	'an address that is taken is that of the other contact')
  or diag(change('movedon', 'SELECT 1'));
is(sql(q{SELECT failures FROM contactsync.status WHERE server = 'movedon'}), '0', 'no contact fails');


# a deleted row leaves the topic, depending on on_delete
sql(qq{SELECT contactsync_unwatch('movedon', 'movedon'); SELECT contactsync_watch('movedon', 'movedon', '{"email": "email", "first_name": "first_name"}', on_delete => 'unsubscribe', delete_delay => '0');
	SELECT contactsync_import('movedon', 'movedon', automations => 'accepted')});
change('movedon', q{INSERT INTO movedon VALUES (2, 'gone@example.com', 'G')});
is(change('movedon', 'DELETE FROM movedon WHERE id = 2'), "DELETE /topics/$topic/contacts/gone\@example.com 200", 'the contact of a deleted row leaves the topic');
ok((grep { $_->{email} eq 'gone@example.com' && !%{ $_->{topics} } } contacts('movedon')), 'the contact stays');

$node->stop;
done_testing();
