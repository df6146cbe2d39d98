# Spotzee's idempotency keys: which requests have the same key, and which must not; both generations of its API.

use strict;
use warnings;

use ContactSync;
use JSON::PP;
use Test::More;

my $speed = 10;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('contactsync.clock_speed' => $speed, 'restart_after_crash' => 'on');

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub prepare
{
	my ($name, %server) = @_;

	create_server($node, $sandbox, 'spotzee', account => $name, server => { pace => 500, burst => 50, %server });
	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, customer text, email text, phone text, first_name text, plan text);
		SELECT contactsync_watch('$name', '$name', '{"external_id": "coalesce(customer, id::text)", "email": "email", "phone": "phone",
			"first_name": "first_name", "attributes": {"plan": "plan"}}')});
	return;
}

sub posts { return grep { $_->{method} eq 'POST' } @{ $sandbox->journal('spotzee', account => $_[0]) }; }

# Change something, wait, and return the requests.
sub change
{
	my ($name, $sql) = @_;
	my $before = posts($name);

	sql("$sql; CALL contactsync_wait('$name')");
	my @posts = posts($name);
	return @posts[ $before .. $#posts ];
}

sub header
{
	my ($post, $name) = @_;
	my ($header) = grep { lc $_->[0] eq $name } @{ $post->{headers} };

	return $header->[1];
}

sub key_of { return header($_[0], 'idempotency-key'); }
sub ids { my $body = decode_json($_[0]{body}); return join(' ', map { $_->{external_id} } ref $body eq 'HASH' ? @{ $body->{contacts} } : @$body); }

sub contact
{
	my ($name, $id) = @_;
	my ($contact) = grep { $_->{external_id} eq $id } @{ $sandbox->contacts('spotzee', account => $name) };

	return $contact;
}

prepare('keys');

# the contents of a request, and what is stored of it
my ($post) = change('keys', q{INSERT INTO keys (id, email, first_name, plan) VALUES (1, ' Ada@Example.com', 'Ada', 'pro')});
is($post->{path}, '/api/client/contacts/batch', 'even a single contact is sent as a batch');
is($post->{body}, '{"contacts":[{"external_id":"1","email":"ada@example.com","first_name":"Ada","data":{"plan":"pro"}}]}', 'the body is as on the page');
is(header($post, 'spotzee-version'), '2026-04-28', 'the request has a version');
my ($kept_key, $request_id) = split(/\|/, sql(q{SELECT idempotency_key, request_id FROM contactsync.calls WHERE server = 'keys'}));
is($kept_key, key_of($post), 'the key is stored with the call');
like($request_id, qr/^req_\d+$/, 'the id of the request is stored with the call');
is(sql(q{SELECT remote_id IS NOT NULL, topics IS NULL FROM contactsync.contacts}), 't|t', q{Spotzee's own id is kept beside the row});
is(sql(q{SELECT count(*) FROM keys WHERE customer IS NOT NULL}), '0', 'the source table is not modified');

# a crash while a batch is in flight: it is built again, and is identical
$sandbox->fault('spotzee', { match => { account => 'keys', method => 'POST' }, effect => 'after', action => { stall => \1 } });
my $before = posts('keys');
sql(q{INSERT INTO keys (id, email, plan) SELECT n, n || '@example.com', 'free' FROM generate_series(2, 6) n});
$sandbox->wait_for_journal('spotzee', sub { grep { $_->{in_flight} } @_ }, account => 'keys');
$node->stop('immediate');
$sandbox->clear_faults('spotzee');
$node->start;
sql(q{CALL contactsync_wait('keys')});
my @posts = posts('keys');
@posts = @posts[ $before .. $#posts ];
cmp_ok(scalar @posts, '>=', 2, 'a batch whose answer was lost in a crash is sent again');
is(ids($posts[0]), '2 3 4 5 6', 'it is the same batch');
is(scalar(keys %{ { map { key_of($_) => 1 } @posts } }), 1, 'it has the same key');
is(scalar(keys %{ { map { $_->{body} => 1 } @posts } }), 1, 'it has the same body');
is(contact('keys', 6)->{data}{plan}, 'free', 'the contacts arrive');

# A -> B -> A around such a crash: the second A is another batch
$sandbox->fault('spotzee', { match => { account => 'keys', method => 'POST' }, effect => 'after', action => { stall => \1 } });
sql(q{UPDATE keys SET plan = 'B' WHERE id = 6});
$sandbox->wait_for_journal('spotzee', sub { grep { $_->{in_flight} } @_ }, account => 'keys');
sql(q{UPDATE keys SET plan = 'free' WHERE id = 6});
$node->stop('immediate');
$sandbox->clear_faults('spotzee');
$node->start;
sql(q{CALL contactsync_wait('keys')});
is(contact('keys', 6)->{data}{plan}, 'free', 'a value that returns is applied');

# a throttle, a failure and a lost connection: the same body with the same key
foreach my $action ({ status => 429, retry_after => 3 }, { status => 500 }, { reset => 'inside' })
{
	my ($what) = %$action;

	$sandbox->fault('spotzee', { match => { account => 'keys', method => 'POST' }, effect => $action->{retry_after} ? 'before' : 'after', action => $action });
	@posts = change('keys', q{UPDATE keys SET plan = plan || '+' WHERE id IN (2, 3)});
	is(scalar @posts, 2, "$what: sent twice");
	ok($posts[0]{body} eq $posts[1]{body} && key_of($posts[0]) eq key_of($posts[1]), "$what: body and key are the same");
	cmp_ok($posts[1]{clock} - $posts[0]{clock}, '>=', 2.95, 'when Retry-After says so') if $action->{retry_after};
}

# conflicts of keys
sub conflict
{
	my ($code, $times, %more) = @_;
	my $body = encode_json({ status => 'error', code => $code, title => 'T', message => "said $code", error => "said $code" });

	$sandbox->fault('spotzee', { match => { account => 'keys', method => 'POST' }, times => $times, action => { status => 409, body => $body, %more } });
	return;
}

conflict('idempotency_in_progress', 2, retry_after => 4);
@posts = change('keys', q{UPDATE keys SET plan = 'x' WHERE id = 2});
is(join(' ', map { $_->{status} } @posts), '409 409 200', 'a request in progress is waited for');
is(scalar(keys %{ { map { key_of($_) . $_->{body} => 1 } @posts } }), 1, 'its key and body stay the same');
cmp_ok($posts[ $_ + 1 ]{clock} - $posts[$_]{clock}, '>=', 3.95, 'for as long as it says') foreach 0, 1;

conflict('idempotency_key_mismatch', 1);
@posts = change('keys', q{UPDATE keys SET plan = 'y' WHERE id = 2});
is(join(' ', map { $_->{status} } @posts), '409 200', 'a key that was used for another request');
isnt(key_of($posts[0]), key_of($posts[1]), 'the key is replaced');
is($posts[0]{body}, $posts[1]{body}, 'the body stays the same');
is(sql(q{SELECT string_agg(verdict, ' ' ORDER BY id) FROM (SELECT * FROM contactsync.calls ORDER BY id DESC LIMIT 2) c}), 'rekey done', 'the call log shows it');

conflict('idempotency_key_mismatch', 2);
@posts = change('keys', q{UPDATE keys SET plan = 'z' WHERE id = 2});
is(scalar @posts, 2, 'once');
is(sql(q{SELECT key, code, message FROM contactsync.failures}), '2|idempotency_key_mismatch|said idempotency_key_mismatch', 'a second mismatch is a failure');
is(sql(q{SELECT contactsync_retry('keys'); CALL contactsync_wait('keys'); SELECT count(*) FROM contactsync.failures}), "1\n0", 'the failure can be retried');

# Spotzee stores a 4xx, so another attempt needs another key
$sandbox->config('spotzee', { account => 'keys', invalid_items => 'request' });
my ($refused) = change('keys', q{UPDATE keys SET phone = 'nonsense' WHERE id = 3});
is($refused->{status}, 422, 'a request is refused as a whole');
is(sql(q{SELECT key, reason, code, field FROM contactsync.failures}), '3|rejected|validation_failed|contacts[0].phone', 'a single contact fails, with the field');
my ($again) = change('keys', q{SELECT contactsync_retry('keys')});
is($again->{body}, $refused->{body}, 'the retry has the same body');
isnt(key_of($again), key_of($refused), 'the retry has another key');
sql(q{UPDATE keys SET phone = NULL WHERE id = 3; CALL contactsync_wait('keys')});
$sandbox->config('spotzee', { account => 'keys', invalid_items => 'item' });

# some items fail: only these are sent again, in another request
$sandbox->fault('spotzee',
	{ match => { account => 'keys', method => 'POST' }, action => { reject_items => {
		2 => { code => 'service_unavailable', message => 'later', status => 503 },
		4 => { code => 'resource_already_exists', message => 'the phone is taken', status => 409 } } } });
@posts = change('keys', q{UPDATE keys SET plan = 'partial' WHERE id BETWEEN 2 AND 5});
is(join(', ', map { ids($_) } @posts), '2 3 4 5, 2', 'only the item that may succeed is sent again');
isnt(key_of($posts[0]), key_of($posts[1]), 'it is sent with another key');
is(sql(q{SELECT key, reason, code, message FROM contactsync.failures}), '4|conflict|resource_already_exists|the phone is taken', 'the other item is a failure with its code');
is(join(' ', map { contact('keys', $_)->{data}{plan} } 2, 3, 5), 'partial partial partial', 'the other contacts arrive');
is(sql(q{SELECT contacts, failed FROM contactsync.calls ORDER BY id DESC OFFSET 1 LIMIT 1}), '4|1', 'the call log counts the failure');

# one customer in two rows: never twice in a batch, and the row that changed last wins
@posts = change('keys', q{INSERT INTO keys (id, customer, email, plan) VALUES (11, 'same', 'a@example.com', 'a'), (12, 'same', 'a@example.com', 'b')});
is(scalar(grep { ids($_) =~ /same.*same/ } @posts), 0, 'no external_id is twice in a batch');
sql(q{UPDATE keys SET plan = 'last' WHERE id = 11; CALL contactsync_wait('keys')});
is(contact('keys', 'same')->{data}{plan}, 'last', 'the row that changed last wins');
is(sql(q{SELECT upsert_key, rows FROM contactsync.duplicates}), 'same|2', 'the view duplicates lists them');

is(scalar(my @none = change('keys', 'UPDATE keys SET email = upper(email) WHERE id IN (2, 5)')), 0, 'rows whose contact is unchanged are not sent again');

# smaller batches, by an option
sql(q{ALTER SERVER keys OPTIONS (ADD batch_size '4')});
@posts = change('keys', q{INSERT INTO keys (id, email) SELECT n, n || '@example.com' FROM generate_series(21, 30) n});
is(join(' ', sort map { scalar(split(/ /, ids($_))) } @posts), '2 4 4', 'batch_size limits the batches');

# the current API: a bare array, names in data, one result per item
prepare('users', api => 'users');
($post) = change('users', q{INSERT INTO users (id, email, first_name, plan) VALUES (1, 'ada@example.com', 'Ada', 'pro')});
is($post->{path}, '/api/client/users/batch', 'users: another path');
is($post->{body}, '[{"external_id":"1","email":"ada@example.com","data":{"first_name":"Ada","plan":"pro"}}]', 'users: a bare array');
$sandbox->fault('spotzee',
	{ match => { account => 'users', method => 'POST' }, action => { reject_items => {
		2 => { code => 'internal_error', message => 'oops', status => 500 },
		3 => { code => 'parameter_invalid_format', message => 'no', status => 400 } } } });
@posts = change('users', q{INSERT INTO users (id, email) SELECT n, n || '@example.com' FROM generate_series(2, 5) n});
is(join(', ', map { ids($_) } @posts), '2 3 4 5, 2', 'users: only failed items are sent again');
is(sql(q{SELECT key, code FROM contactsync.failures WHERE server = 'users'}), '3|parameter_invalid_format', 'users: a permanent error is a failure');
is(scalar @{ $sandbox->contacts('spotzee', account => 'users') }, 4, 'users: the others arrive');

# errors of the key or the account: all changes stay queued
foreach my $case ([ 'readonly', { keys => { sk_readonly => { role => 'support' } } }, { keys => { sk_readonly => { role => 'editor' } } }, qr/^forbidden: / ],
	[ 'revoked', { keys => { sk_revoked => { revoked => \1 } } }, { keys => { sk_revoked => { revoked => \0 } } }, qr/^unauthorized: Spotzee does not accept the API key/ ],
	[ 'version', { versions => ['2027-01-01'] }, { versions => [ '2027-01-01', '2026-04-28' ] }, qr/^request_refused: Spotzee does not accept the value of the option version/ ])
{
	my ($name, $bad, $good, $reason) = @$case;

	prepare($name);
	$sandbox->config('spotzee', { account => $name, %$bad });
	sql(qq{INSERT INTO $name SELECT n FROM generate_series(1, 150) n});
	$node->poll_query_until('postgres', qq{SELECT state = 'halted' FROM contactsync.status WHERE server = '$name'}) or die "timed out waiting for the halt: $name";
	like(sql(qq{SELECT reason FROM contactsync.status WHERE server = '$name'}), $reason, "$name: the server halts with the reason");
	is(sql(qq{SELECT backlog, failures FROM contactsync.status WHERE server = '$name'}), '150|0', "$name: all changes stay queued");
	$sandbox->config('spotzee', { account => $name, %$good });
	sql(qq{ALTER SERVER $name OPTIONS (SET pace '400'); CALL contactsync_wait('$name')});
	is(scalar @{ $sandbox->contacts('spotzee', account => $name) }, 150, "$name: delivery resumes when the error is corrected");
}

$node->stop;
done_testing();
