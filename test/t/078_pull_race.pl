# What a pull learns while calls are under way is not lost, and nobody is taken for opted out because a clock is wrong.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $node = start_node();
my %sandbox;

# A server of a sandbox of its own, whose clock can be moved, and a table mirrored to it.
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

# Until a call that was held has come; and the last one that came
sub arrived { my ($sandbox, $before) = @_; return $sandbox->wait_for_journal('mailingcore', sub { grep { $_->{method} eq 'POST' && $_->{seq} > $before } @_ }); }
sub last_seq { my ($sandbox) = @_; my @journal = @{ $sandbox->journal('mailingcore') }; return $journal[-1]{seq}; }
sub last_body { my ($sandbox) = @_; my @posts = grep { $_->{method} eq 'POST' } @{ $sandbox->journal('mailingcore') }; return $posts[-1]{body}; }
my $hold = { match => { method => 'POST' }, action => { stall => JSON::PP::true } };

# a call of a contact that is known is under way while the opt-out is pulled
my $sandbox = prepare('known');
sql(q{INSERT INTO known VALUES (1, 'c1@example.com', 'Ann', true); CALL contactsync_wait('known')});
$sandbox->fault('mailingcore', $hold);
my $before = last_seq($sandbox);
sql(q{UPDATE known SET first_name = 'Anna'});
arrived($sandbox, $before);
opt_out($sandbox, 1);
sql(q{SELECT contactsync_pull('known')});
is(opted_out(1), 't', 'an opt-out is learnt while a call of the contact is under way');
$sandbox->clear_faults('mailingcore');
sql(q{CALL contactsync_wait('known')});
is(opted_out(1), 't', 'and is still known when that call has been stored');
sql(q{ALTER SERVER known OPTIONS (ADD repeat_opt_in 'true'); UPDATE known SET first_name = 'Ann'; CALL contactsync_wait('known')});
unlike(last_body($sandbox), qr/optIn/, 'so consent is not claimed again, not even by repeat_opt_in');

# the same, but what is under way withdraws consent here: what comes after that is a new word
$sandbox->call('POST', 'mailingcore/contacts', { account => 'clx_sandbox', contacts => [ { email => 'c1@example.com', externalId => '1', optIn => JSON::PP::true } ] });
sql(q{SELECT contactsync_pull('known')});
is(opted_out(1), 'f', 'who opts in there again is no opt-out');
$sandbox->fault('mailingcore', $hold);
$before = last_seq($sandbox);
sql(q{UPDATE known SET opt_in = false});
arrived($sandbox, $before);
opt_out($sandbox, 1);
sql(q{SELECT contactsync_pull('known')});
$sandbox->clear_faults('mailingcore');
sql(q{CALL contactsync_wait('known')});
sql(q{UPDATE known SET opt_in = true; CALL contactsync_wait('known')});
like(last_body($sandbox), qr/"optIn":true/, 'who withdrew consent here, and gave it again, is sent with it');

# the first call of a contact is under way: it is not stored yet, so the next pull learns of it
$sandbox = prepare('fresh');
$sandbox->fault('mailingcore', { match => { method => 'POST' }, effect => 'after', action => { stall => JSON::PP::true, stall_at => 'inside' } });
sql(q{INSERT INTO fresh VALUES (2, 'c2@example.com', 'Bea', true)});
wait_for('the contact', sub { $sandbox->count('mailingcore')->{contacts} });
opt_out($sandbox, 2);
sql(q{SELECT contactsync_pull('fresh')});
$sandbox->clear_faults('mailingcore');
sql(q{CALL contactsync_wait('fresh')});
is(opted_out(2), 'f', 'a contact that was not stored when it was pulled is not known to have opted out');
sql(q{DELETE FROM contactsync.remote_contact r USING contactsync.endpoint e WHERE e.id = r.endpoint AND e.server = 'fresh' AND r.opt_in});
# only what is newer than the newest is listed: the contact is not
sql(q{UPDATE contactsync.endpoint SET pulled_until = pulled_until + interval '1 hour' WHERE server = 'fresh'});
is(sql(q{SELECT contactsync_pull('fresh')}), 0, 'which the next pull does not bring again');
is(opted_out(2), 't', 'but learns from what the one before brought');

# the provider's clock is an hour ahead: what we wrote ourselves is not taken for a later opt-out
$sandbox = prepare('ahead');
$sandbox->call('POST', 'clock', { advance => 3600 });
sql(q{INSERT INTO ahead VALUES (3, 'c3@example.com', 'Cid', false); CALL contactsync_wait('ahead'); SELECT contactsync_pull('ahead')});
is(opted_out(3), 'f', 'a clock that is ahead makes no opt-out of what we wrote ourselves');
sql(q{UPDATE ahead SET opt_in = true; CALL contactsync_wait('ahead')});
like(last_body($sandbox), qr/"optIn":true/, 'so a consent that is given later arrives');

$node->stop;
done_testing();
