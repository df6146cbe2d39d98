# Caramel's limits: five calls a second, three after the first 429, ten forms a minute, three repetitions after a 500; and the
# contents of each call.

use strict;
use warnings;

use ContactSync;
use Digest::SHA 'sha256_hex';
use JSON::PP;
use Test::More;

# Both clocks run at this speed, so that they can be compared.
my $speed = 20;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('contactsync.clock_speed' => $speed);

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub journal { return @{ $sandbox->journal('caramel', account => $_[0]) }; }
sub tool { return decode_json($_[0]{body})->{params}{name}; }
sub forms { return scalar grep { tool($_) =~ /form/ } @_; }

sub prepare
{
	my ($name, $mapping, %server) = @_;

	create_server($node, $sandbox, 'caramel', account => $name, server => \%server);
	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, consent boolean, first_name text);
		SELECT contactsync_watch('$name', '$name', '{"email": "email"$mapping}', claims => 'all')});
	return;
}

# Insert rows, wait for them, and return the requests.
sub insert
{
	my ($name, $from, $to) = @_;
	my $before = journal($name);

	sql("INSERT INTO $name SELECT n, n || '\@example.com', true FROM generate_series($from, $to) n; CALL contactsync_wait('$name')");
	my @journal = journal($name);
	return @journal[ $before .. $#journal ];
}

# Check that the calls took at least the expected time on the sandbox's clock, allowing for its delay in noticing the first.
sub is_paced
{
	my ($rate, $title, @calls) = @_;
	my $seconds = $calls[-1]{clock} - $calls[0]{clock};

	cmp_ok($seconds, '>=', 0.95 * $#calls / $rate, "$title: " . @calls . " calls in $seconds s");
	return;
}

prepare('pace', '');
my @calls = insert('pace', 1, 31);
is(scalar @calls, 31, 'one call per contact');
is_paced(5, 'five a second', @calls);

# the contents of each call
my %header = map { lc $_->[0] => $_->[1] } @{ $calls[0]{headers} };
is($header{authorization}, 'Bearer sha256:' . substr(sha256_hex('caramel_pace'), 0, 12), 'the token is in the Authorization header');
is($header{'content-type'}, 'application/json', 'the body is JSON');
is($header{accept}, 'application/json, text/event-stream', 'the answer may be a stream');
my @ids = map { $_->{body} =~ /"id":(\d+),/ } @calls;
is(scalar(keys %{ { map { $_ => 1 } @ids } }), 31, 'ids are distinct numbers');
my ($wanted) = sort { $a <=> $b } @ids;
my ($first) = grep { $_->{body} =~ /"id":$wanted,/ } @calls;
is($first->{body},
	qq({"jsonrpc":"2.0","method":"tools/call","id":$wanted,"params":{"name":"caramel.v1.contact.upsert","arguments":{"business_id":"bus_01h7m9k0aabcdefghj1234567","email":"$first->{keys}[0]"}}}),
	'and the body is that of the page');
my %connection = map { $_->{connection} => 1 } @calls;
cmp_ok(scalar(keys %connection), '<=', 2, 'connections are reused, as many as there are calls at a time');

# the first 429: wait for as long as it says, then lower the pace to three a second permanently
$sandbox->fault('caramel', { match => { account => 'pace' }, action => { status => 429, retry_after => '2' } });
@calls = insert('pace', 32, 32);
is(join(' ', map { $_->{status} } @calls), '429 200', 'a throttled call is repeated');
cmp_ok($calls[1]{clock} - $calls[0]{clock}, '>=', 1.95, 'the retry waits for Retry-After');
is_paced(3, 'three a second', insert('pace', 33, 53));
$node->stop;
$node->start;
is_paced(3, 'after a restart too', insert('pace', 54, 74));
is(sql(q{SELECT pace, failures FROM contactsync.status WHERE server = 'pace'}), '3|0', 'status shows the pace, and no contact fails');

# an unchanged contact causes no call; rows that differ only in letter case are one contact, that of the row that changed last
prepare('same', ', "first_name": "first_name"', pace => 500, burst => 50);
@calls = insert('same', 1, 2);
is(sql(q{UPDATE same SET email = upper(email) || '  '; CALL contactsync_wait('same'); SELECT unchanged FROM contactsync.status WHERE server = 'same'}), '2', 'an unchanged contact is counted as unchanged');
is(scalar journal('same'), 2, 'an unchanged contact is not sent');
is(sql(q{SELECT count(synced_at) FROM contactsync.contacts WHERE server = 'same'}), '2', 'the time of each delivery is stored');
sql(qq{INSERT INTO same VALUES ($_); CALL contactsync_wait('same')}) foreach "3, 'Jane\@Example.com', NULL, 'first'", "4, 'jane\@example.com ', NULL, 'last'";
is_deeply([ map { $_->{first_name} } grep { $_->{email} eq 'jane@example.com' } @{ $sandbox->contacts('caramel', account => 'same') } ],
	['last'], 'letter case does not make another contact, and the last row wins');
is(sql(q{SELECT upsert_key, rows FROM contactsync.duplicates}), 'jane@example.com|2', 'the view duplicates lists the rows');

# a 500 for one contact while others succeed: three repetitions with increasing pauses, then a failure
prepare('fail', '', pace => 500, burst => 50);
$sandbox->fault('caramel', { match => { account => 'fail', email => '1@example.com' }, times => undef, action => { status => 500 } });
$sandbox->fault('caramel', { match => { account => 'fail', email => '2@example.com' }, times => undef, action => { latency => 2 } });
@calls = grep { $_->{keys}[0] eq '1@example.com' } insert('fail', 1, 2);
is(scalar @calls, 4, 'a contact for which Caramel fails is tried four times');
my @gaps = map { $calls[$_]{clock} - $calls[ $_ - 1 ]{clock} } 1 .. 3;
ok($gaps[0] >= 0.45 && $gaps[1] >= 0.95 && $gaps[2] >= 1.95, "the pauses increase (@gaps)");
is(sql(q{SELECT key, reason, code, attempts FROM contactsync.failures WHERE server = 'fail'}), '1|unavailable|internal_error|4', 'then it is a failure')
  or diag(sql(q{SELECT * FROM contactsync.failures}));
is(sql(q{SELECT state FROM contactsync.status WHERE server = 'fail'}), 'idle', 'the server is idle');
$sandbox->clear_faults('caramel');
is(sql(q{SELECT contactsync_retry('fail'); CALL contactsync_wait('fail'); SELECT count(*) FROM contactsync.failures}), "1\n0", 'the failure can be retried');

# a 500 for all contacts is waited for instead, however long it lasts
$sandbox->fault('caramel', { match => { account => 'fail' }, times => undef, action => { status => 500 } });
sql(q{INSERT INTO fail VALUES (3, '3@example.com')});
$sandbox->wait_for_journal('caramel', sub { 6 <= grep { $_->{keys} && $_->{keys}[0] eq '3@example.com' } @_ }, account => 'fail');
is(sql(q{SELECT state, failures, backlog FROM contactsync.status WHERE server = 'fail'}), 'unavailable|0|1', 'if Caramel fails for all contacts, no contact becomes a failure');
$sandbox->clear_faults('caramel');
sql(q{CALL contactsync_wait('fail')});

# a contact that Caramel refuses is tried once and fails, and others continue
$sandbox->fault('caramel', { match => { account => 'fail', email => '5@example.com' }, times => undef, action => { status => 400, body => '{"error": "invalid_request", "messsage": "no such domain", "status": 400}' } });
@calls = insert('fail', 4, 6);
is(scalar @calls, 3, 'a 4xx is not repeated');
is(sql(q{SELECT key, reason, code, message FROM contactsync.failures}), '5|rejected|invalid_request|no such domain', 'a 4xx is a failure, with the message of Caramel');

# forms: ten a minute
my $opt_in = ', "opt_in": "consent"';
prepare('form', $opt_in, route => 'form', form_id => 'frm_import', pace => 500, burst => 50);
$sandbox->config('caramel', { account => 'form', limits => { form => { kind => 'sliding', limit => 10, seconds => 60 } } });
@calls = insert('form', 1, 13);
is(forms(@calls), scalar @calls, 'all contacts are sent through the form');
is($sandbox->count('caramel', account => 'form')->{rate_limited}, 0, 'the limit is not exceeded');
is_paced(0.16, 'ten a minute', @calls);
is(scalar(grep { $_->{marketing_consent} } @{ $sandbox->contacts('caramel', account => 'form') }), 13, 'consent is set for contacts who gave it');
sql(q{ALTER SERVER form OPTIONS (ADD form_pace '500')});
@calls = insert('form', 21, 32);
cmp_ok($sandbox->count('caramel', account => 'form')->{rate_limited}, '>', 0, 'with a higher pace the limit is exceeded');
is($sandbox->count('caramel', account => 'form')->{contacts}, 25, 'refused forms are repeated');
is(sql(q{SELECT failures FROM contactsync.status WHERE server = 'form'}), '0', 'no contact fails');

# a plan that is too low: the tool is tried once, and not again after a restart
prepare('tier', $opt_in, form_id => 'frm_import', form_pace => 500, pace => 500, burst => 50);
$sandbox->config('caramel',
	{ account => 'tier', businesses => { bus_01h7m9k0aabcdefghj1234567 => { name => 'X', subscription_tier => 'growth', role => 'owner' } } });
# these are others than above, because both servers are the same business, and so the same account
@calls = insert('tier', 101, 101);
is(join(' ', map { tool($_) . " $_->{status}" } @calls), 'caramel.v1.contact.upsert 403 caramel.v1.form.submit 200', 'tier_required is followed by the form');
is(forms(insert('tier', 102, 104)), 3, 'later contacts go directly to the form');
is(sql(q{SELECT state, reason FROM contactsync.status WHERE server = 'tier'}), 'idle|tier_required: contacts go through the form', 'status shows the reason');
$node->stop;
$node->start;
@calls = insert('tier', 105, 106);
is(forms(@calls), scalar @calls, 'so do contacts after a restart');

# two businesses with one token
create_server($node, $sandbox, 'caramel', name => 'second',
	server => { business_id => 'bus_second', pace => 500 }, mapping => { access_token => 'caramel_fail' });
$sandbox->config('caramel', { account => 'fail', businesses => { bus_second => { name => 'Y', subscription_tier => 'lifetime', role => 'owner' } } });
sql(q{SELECT contactsync_upsert('second', '{"email": "1@example.com"}'); CALL contactsync_wait('second')});
is(join(' ', sort map { $_->{business_id} } grep { $_->{email} eq '1@example.com' } @{ $sandbox->contacts('caramel', account => 'fail') }),
	'bus_01h7m9k0aabcdefghj1234567 bus_second', 'one server per business, with the same token; a lifetime plan suffices');

$node->stop;
done_testing();
