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

$node->stop;
done_testing();
