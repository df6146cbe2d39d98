# What the tests of shipped definitions share: a node with a role without privileges, a sandbox, and what holds at every
# service.

package Shipped;

use strict;
use warnings;

use ContactSync;
use Exporter 'import';
use JSON::PP;
use Test::More;

our @EXPORT = qw($sandbox sql app settle reaches halted guarded mailable resubscribed journal body people create check_consent check_errors start_shipped);

our $sandbox;
my $node;

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub app { return $node->safe_psql('postgres', "SET SESSION AUTHORIZATION app; $_[0]"); }
sub settle { my ($server, $sql) = @_; app("$sql; CALL contactsync_wait('$server')"); return; }
sub reaches { my ($server, $state) = @_; return $node->poll_query_until('postgres', "SELECT bool_or(state = '$state') FROM contactsync.status WHERE server = '$server'"); }
sub halted { return reaches($_[0], 'halted'); }
sub guarded { return reaches($_[0], 'guarded'); }

# Return by address what can reach it, as "mailable", or "-".
sub mailable { my ($provider, $account) = @_; return { map { $_->{email} => $_->{mailable} ? 'mailable' : '-' } @{ $sandbox->call('GET', "$provider/mailable", undef, account => $account) } }; }
sub resubscribed { my ($provider, $account) = @_; return scalar grep { $_->{kind} eq 'resubscribed' } @{ $sandbox->events($provider, account => $account) }; }
sub journal { my ($provider, $account) = @_; return @{ $sandbox->journal($provider, account => $account) }; }
sub body { my ($call) = @_; return ref $call->{body} ? $call->{body} : decode_json($call->{body}); }

# Start both, and check that these definitions are shipped, and pass their examples.
sub start_shipped
{
	my (@names) = @_;
	my $list = join(', ', map { quote_literal($_) } @names);

	$sandbox = start_sandbox();
	$node = start_node();
	sql(q{CREATE EXTENSION contactsync; CREATE ROLE app LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO app; GRANT CREATE ON SCHEMA public TO app});
	is(app(qq{SELECT string_agg(name || ' ' || COALESCE(problem, 'ok'), ', ' ORDER BY name) FROM contactsync_providers() WHERE origin = 'shipped' AND name IN ($list)}),
		join(', ', map { "$_ ok" } sort @names), 'definitions are shipped');
	is(app(qq{SELECT string_agg(name || ' ' || example || ': ' || found, E'\n') FROM contactsync_providers(), contactsync_check_definition(definition) WHERE origin = 'shipped' AND name IN ($list) AND NOT ok}), '',
		'each passes its examples');
	return;
}

# four people of whom nothing is known here: two want mail, one of whom had left there; one does not; one said nothing
sub people
{
	my ($name, $mapping, %option) = @_;

	app(qq{CREATE TABLE $name (id int PRIMARY KEY, email text, name text, wants boolean, plan text);
		SELECT contactsync_watch('$name', '$name', '$mapping', on_delete => 'delete', delete_delay => '0', delete_guard => 'off')});
	settle($name, qq{INSERT INTO $name VALUES (1, 'yes\@example.com', 'Yes', true, 'pro'), (2, 'left\@example.com', 'Left', true, NULL), (3, 'no\@example.com', 'No', false, NULL), (4, 'silent\@example.com', NULL, NULL, NULL)});
	return;
}

# What holds at every service, whatever its API is; where whoever exists is mailed, others are not created.
sub check_consent
{
	my ($provider, $name, $field, %option) = @_;
	my %others = $option{mails_whoever_exists} ? () : ('no@example.com' => '-', 'silent@example.com' => '-');

	is_deeply(mailable($provider, $name), { 'yes@example.com' => 'mailable', 'left@example.com' => '-', %others },
		"$name: only who is new and said yes can be mailed");
	$sandbox->call('POST', "$provider/people", { account => $name, email => 'yes@example.com', act => 'opt_out' });
	settle($name, qq{UPDATE $name SET name = 'Changed'});
	is(mailable($provider, $name)->{'yes@example.com'}, '-', "$name: an opt-out there stands when the row changes");
	settle($name, qq{UPDATE $name SET wants = true WHERE id = 3});
	is(mailable($provider, $name)->{'no@example.com'}, 'mailable', "$name: a word is sent");
	settle($name, qq{UPDATE $name SET wants = false WHERE id = 3});
	is(mailable($provider, $name)->{'no@example.com'}, '-', "$name: so is a withdrawal");
	settle($name, qq{DELETE FROM $name WHERE id = 4});
	is((scalar grep { ($_->{$field} // '') eq 'silent@example.com' } @{ $sandbox->contacts($provider, account => $name) }), 0, "$name: a deleted row is deleted there");
	return;
}

# Failures that pass, and those that do not.
sub check_errors
{
	my ($provider, $name, $secret, $good) = @_;
	my $before = $sandbox->count($provider, account => $name)->{requests};

	$sandbox->fault($provider, { match => { account => $name }, times => 1, action => { status => 503 } });
	$sandbox->fault($provider, { match => { account => $name }, times => 1, action => { status => 429, retry_after => 1 } });
	settle($name, qq{UPDATE $name SET name = 'Again' WHERE id = 1});
	is(app(qq{SELECT count(*) FROM contactsync.failures WHERE server = '$name'}), '0', "$name: a failure and a throttle pass");
	cmp_ok($sandbox->count($provider, account => $name)->{requests} - $before, '>=', 3, "$name: by being repeated");
	app("ALTER USER MAPPING FOR app SERVER $name OPTIONS (SET $secret 'wrong')");
	app("UPDATE $name SET name = 'Halted' WHERE id = 1");
	ok(halted($name), "$name: a wrong secret halts the server");
	app("ALTER USER MAPPING FOR app SERVER $name OPTIONS (SET $secret '$good')");
	settle($name, 'SELECT 1');
	is(app(qq{SELECT count(*) FROM contactsync.failures WHERE server = '$name'}), '0', "$name: and burns nothing");
	return;
}

sub create
{
	my ($name, $options, $mapping) = @_;

	app("CREATE SERVER $name FOREIGN DATA WRAPPER contactsync OPTIONS (provider '$name', pace '1000', burst '1000', $options); CREATE USER MAPPING FOR app SERVER $name OPTIONS ($mapping)");
	return;
}

1;
