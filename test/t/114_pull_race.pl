# Opt-outs that are pulled while calls are in flight are not lost, and a wrong clock does not cause opt-outs.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $node = start_node();
my %sandbox;

# Create a server with its own sandbox, whose clock can be changed, and a watched table.
sub prepare
{
	my ($name) = @_;
	my $sandbox = $sandbox{$name} = start_sandbox();

	create_server($node, $sandbox, 'mailingcore', name => $name);
	$node->safe_psql(
		'postgres', qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, first_name text, opt_in bool);
		SELECT contactsync_watch('$name', '$name', '{"email": "email", "external_id": "id", "first_name": "first_name", "opt_in": "opt_in"}')});
	return $sandbox;
}

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub opted_out { my ($key) = @_; return sql("SELECT opted_out FROM contactsync.contact WHERE key = '$key'"); }

sub opt_out
{
	my ($sandbox, $id) = @_;
	return $sandbox->call('POST', 'mailingcore/contacts', { account => 'clx_sandbox', contacts => [ { email => "c$id\@example.com", externalId => "$id", optIn => JSON::PP::false } ] });
}

# Wait until a held call has arrived; return the last call
sub arrived { my ($sandbox, $before) = @_; return $sandbox->wait_for_journal('mailingcore', sub { grep { $_->{method} eq 'POST' && $_->{seq} > $before } @_ }); }
sub last_seq { my ($sandbox) = @_; my @journal = @{ $sandbox->journal('mailingcore') }; return $journal[-1]{seq}; }
sub last_body { my ($sandbox) = @_; my @posts = grep { $_->{method} eq 'POST' } @{ $sandbox->journal('mailingcore') }; return $posts[-1]{body}; }
my $hold = { match => { method => 'POST' }, action => { stall => JSON::PP::true } };

# a call for a known contact is in flight while its opt-out is pulled
my $sandbox = prepare('known');
sql(q{INSERT INTO known VALUES (1, 'c1@example.com', 'Ann', true); CALL contactsync_wait('known')});
$sandbox->fault('mailingcore', $hold);
my $before = last_seq($sandbox);
sql(q{UPDATE known SET first_name = 'Anna'});
arrived($sandbox, $before);
opt_out($sandbox, 1);
sql(q{SELECT contactsync_pull('known')});
is(opted_out(1), 't', 'an opt-out is stored while a call for the contact is in flight');
$sandbox->clear_faults('mailingcore');
sql(q{CALL contactsync_wait('known')});
is(opted_out(1), 't', 'it is still stored after the outcome of that call');
sql(q{SELECT contactsync_alter_watch('known', 'known', claims => 'all'); UPDATE known SET first_name = 'Ann'; CALL contactsync_wait('known')});
unlike(last_body($sandbox), qr/optIn/, q{consent is not claimed again, not even with claims => 'all'});

# the same, but the call in flight withdraws the consent here: a later one is a new decision
$sandbox->call('POST', 'mailingcore/contacts', { account => 'clx_sandbox', contacts => [ { email => 'c1@example.com', externalId => '1', optIn => JSON::PP::true } ] });
sql(q{SELECT contactsync_pull('known')});
is(opted_out(1), 'f', 'an opt-in there ends the opt-out');
$sandbox->fault('mailingcore', $hold);
$before = last_seq($sandbox);
sql(q{UPDATE known SET opt_in = false});
arrived($sandbox, $before);
opt_out($sandbox, 1);
sql(q{SELECT contactsync_pull('known')});
$sandbox->clear_faults('mailingcore');
sql(q{CALL contactsync_wait('known')});
sql(q{UPDATE known SET opt_in = true; CALL contactsync_wait('known')});
like(last_body($sandbox), qr/"optIn":true/, 'a consent withdrawn and given again here is sent');

# the first call for a contact is in flight: it is not stored yet, so only the next pull can judge it
$sandbox = prepare('fresh');
$sandbox->fault('mailingcore', { match => { method => 'POST' }, effect => 'after', action => { stall => JSON::PP::true, stall_at => 'inside' } });
sql(q{INSERT INTO fresh VALUES (2, 'c2@example.com', 'Bea', true)});
wait_for('the contact', sub { $sandbox->count('mailingcore')->{contacts} });
opt_out($sandbox, 2);
sql(q{SELECT contactsync_pull('fresh')});
$sandbox->clear_faults('mailingcore');
sql(q{CALL contactsync_wait('fresh')});
is(opted_out(2), 'f', 'a contact that was not stored before the pull is not an opt-out');
sql(q{DELETE FROM contactsync.remote_contact r USING contactsync.endpoint e WHERE e.id = r.endpoint AND e.server = 'fresh' AND r.opt_in});
# the next pull lists only later changes, and not this contact
sql(q{UPDATE contactsync.endpoint SET pulled_until = pulled_until + interval '1 hour' WHERE server = 'fresh'});
is(sql(q{SELECT contactsync_pull('fresh')}), 0, 'the next pull does not list the contact again');
is(opted_out(2), 't', 'it judges the contact by the data of the previous pull');

# the provider's clock is an hour ahead: our own write is not taken for a later opt-out
$sandbox = prepare('ahead');
$sandbox->call('POST', 'clock', { advance => 3600 });
sql(q{INSERT INTO ahead VALUES (3, 'c3@example.com', 'Cid', false); CALL contactsync_wait('ahead'); SELECT contactsync_pull('ahead')});
is(opted_out(3), 'f', 'a clock that is ahead does not turn our own write into an opt-out');
sql(q{UPDATE ahead SET opt_in = true; CALL contactsync_wait('ahead')});
like(last_body($sandbox), qr/"optIn":true/, 'a consent given later arrives');

$node->stop;
done_testing();
