# What is a word of the person: opt_in of an address that turns to true, whichever row says so.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

# everything is done by a role that owns nothing but its servers and tables
$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop});

sub sql { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'shop' ]); }

foreach my $name (qw(mailingcore campaignlark))
{
	my $account = "words$name";
	my ($key, $is_in, $out) = $name eq 'mailingcore' ? ('email', sub { $_[0]{optIn} }, { optIn => JSON::PP::false }) :
		('email_address', sub { $_[0]{status} eq 'SUBSCRIBED' }, { status => 'UNSUBSCRIBED' });
	my $settle = sub { sql("$_[0]; CALL contactsync_wait('$account')") };
	my $is_in_now = sub {
		my ($contact) = grep { $_->{$key} eq $_[0] } @{ $sandbox->contacts($name, account => $account) };
		return $is_in->($contact) ? 1 : 0;
	};
	my $opt_out = sub { $sandbox->call('POST', "$name/people", { account => $account, email => $_[0], act => 'opt_out' }) };

	create_server($node, $sandbox, $name, account => $account, role => 'shop', server => { pace => 500, burst => 50 });
	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, wants boolean, first_name text);
		SELECT contactsync_watch('$name', '$account', '{"email": "email", "opt_in": "wants", "first_name": "first_name"}')});

	# a row that says no gets another key and says yes in one change
	$settle->("INSERT INTO $name VALUES (1, 'a\@example.com', false, 'A')");
	is($is_in_now->('a@example.com'), 0, "$name: no arrives");
	$settle->("UPDATE $name SET id = 2, wants = true WHERE id = 1");
	is($is_in_now->('a@example.com'), 1, "$name: opt_in that becomes true together with a key is a word");

	# a key alone is none
	$opt_out->('a@example.com');
	$settle->("UPDATE $name SET id = 3 WHERE id = 2");
	is($is_in_now->('a@example.com'), 0, "$name: a key alone is none");
	$settle->("DELETE FROM $name WHERE id = 3");
	$settle->("INSERT INTO $name VALUES (3, 'a\@example.com', true, 'A')");
	is($is_in_now->('a@example.com'), 0, "$name: nor is a row that said true and is inserted again");

	# delete and insert
	$settle->("INSERT INTO $name VALUES (10, 'b\@example.com', false, 'B')");
	$settle->("BEGIN; DELETE FROM $name WHERE id = 10; INSERT INTO $name VALUES (11, 'b\@example.com', true, 'B'); COMMIT");
	is($is_in_now->('b@example.com'), 1, "$name: a row that says no is replaced by one that says yes");
	$settle->("INSERT INTO $name VALUES (20, 'c\@example.com', false, 'C')");
	$settle->("DELETE FROM $name WHERE id = 20");
	$settle->("INSERT INTO $name VALUES (21, 'c\@example.com', true, 'C')");
	is($is_in_now->('c@example.com'), 1, "$name: ... also if it had gone before");

	# another row says no
	$settle->("INSERT INTO $name VALUES (30, 'd\@example.com', false, 'D'), (31, 'd\@example.com', false, 'D')");
	$settle->("UPDATE $name SET id = 32, wants = true WHERE id = 31");
	is($is_in_now->('d@example.com'), 0, "$name: while another row says no, the key changes nothing");
	# another row said no last, and one that always said true gets another key
	$settle->("INSERT INTO $name VALUES (40, 'e\@example.com', true, 'E'), (41, 'e\@example.com', NULL, 'E')");
	is($is_in_now->('e@example.com'), 1, "$name: yes arrives");
	$settle->("UPDATE $name SET wants = false WHERE id = 41");
	is($is_in_now->('e@example.com'), 0, "$name: so does no of another row");
	$settle->("BEGIN; DELETE FROM $name WHERE id = 41; UPDATE $name SET id = 42 WHERE id = 40; COMMIT");
	is($is_in_now->('e@example.com'), 0, "$name: a row that always said true says nothing new under another key");
}

# at MailingCore a contact that is found by an external id keeps it when its address changes; an address has one contact
create_server($node, $sandbox, 'mailingcore', account => 'heirs', role => 'shop', server => { pace => 500, burst => 50 });
sql(q{
	CREATE TABLE heirs (id int PRIMARY KEY, email text, wants boolean);
	SELECT contactsync_watch('heirs', 'heirs', '{"email": "email", "opt_in": "wants", "external_id": "id"}')});

sub settle { return sql("$_[0]; CALL contactsync_wait('heirs')"); }

# The contacts as "1:a in, 2:b out".
sub heirs
{
	return join(', ', map { "$_->{externalId}:" . $_->{email} =~ s/\@.*//r . ($_->{optIn} ? ' in' : ' out') }
		  sort { $a->{externalId} <=> $b->{externalId} } @{ $sandbox->contacts('mailingcore', account => 'heirs') });
}

foreach my $pull ('', q{; SELECT contactsync_pull('heirs')})
{
	my ($one, $two, @to) = $pull ? (3, 4, 'k', 'l', 'm') : (1, 2, 'h', 'i', 'j');

	settle("INSERT INTO heirs VALUES ($one, '$to[0]\@example.com', true)");
	settle("INSERT INTO heirs VALUES ($two, '$to[0]\@example.com', true)");
	settle("UPDATE heirs SET email = '$to[1]\@example.com' WHERE id = $one");
	settle(q{SELECT contactsync_retry('heirs')} . $pull);
	like(heirs(), qr/$one:$to[1] in, $two:$to[0] out$/, 'consent of an address is not claimed again for the contact that has it next' . ($pull && ', also if it is listed'));
	settle("UPDATE heirs SET email = '$to[2]\@example.com' WHERE id = $two");
	like(heirs(), qr/$one:$to[1] in, $two:$to[2] in$/, '... but when that one gets an address that nobody has had');
}
$sandbox->call('POST', 'mailingcore/people', { account => 'heirs', email => 'i@example.com', act => 'opt_out' });
settle(q{UPDATE heirs SET email = 'n@example.com' WHERE id = 1});
like(heirs(), qr/^1:n out, 2:j in,/, 'a contact that carried its own consent may have opted out since, and gets none with another address');

$node->stop;
done_testing();
