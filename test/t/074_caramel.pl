# Caramel from end to end: the tool, the form where the plan is too low, and consent that is never claimed falsely.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $business = 'bus_01h7m9k0aabcdefghj1234567';
my $sandbox = start_sandbox();
my $node = start_node();

create_server($node, $sandbox, 'caramel', account => 'car', server => { form_id => 'frm_import', form_pace => 500, pace => 500, burst => 50 });
$node->safe_psql(
	'postgres', q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, first_name text, last_name text, consent boolean);
	SELECT contactsync_watch('customers', 'car',
		'{"email": "email", "first_name": "first_name", "last_name": "last_name", "opt_in": "consent"}', claims => 'all');
});

sub settle { $node->safe_psql('postgres', "$_[0]; CALL contactsync_wait('car')"); return; }

sub contact
{
	my ($email) = @_;
	my ($contact) = grep { $_->{email} eq $email } @{ $sandbox->contacts('caramel', account => 'car') };

	return $contact;
}

# How often the form was submitted for a person.
sub submitted
{
	my ($name) = @_;

	return scalar(grep { ($_->{body} // '') =~ /form\.submit.*$name\@/ } @{ $sandbox->journal('caramel', account => 'car') });
}

sub set_tier
{
	$sandbox->config('caramel',
		{ account => 'car', businesses => { $business => { name => 'X', subscription_tier => $_[0], role => 'owner' } } });
	return;
}

my $person = 0;

foreach my $shape (
	{ errors => 'http', result => 'object', sse => JSON::PP::false, misspell => JSON::PP::false },
	{ errors => 'tool', result => 'content', sse => JSON::PP::true, misspell => JSON::PP::true },
	{ errors => 'http', result => 'structured', sse => JSON::PP::false, misspell => JSON::PP::true })
{
	my $name = "$shape->{errors}, $shape->{result}";

	# what is remembered of a person outlives the watch, so each round is about others
	my ($jane, $joe) = ("jane$person\@example.com", "joe$person\@example.com");
	my $spelled = "Jane$person\@Example.com";

	$person++;

	$sandbox->config('caramel', { account => 'car', %$shape });
	set_tier('business');
	settle("INSERT INTO customers VALUES (1, ' $spelled=20', 'Jane', NULL, true), (2, '$joe', 'Joe', 'D', NULL)");
	is(contact($jane)->{first_name}, 'Jane', "$name: the tool creates the contact");
	ok(!contact($jane)->{marketing_consent}, "$name: the tool claims no consent");

	# the plan is too low: use the form, but only for contacts with consent
	set_tier('growth');
	settle(q{UPDATE customers SET last_name = 'Adamson'});
	is(contact($jane)->{last_name}, 'Adamson', "$name: the contact is sent through the form");
	ok(contact($jane)->{marketing_consent}, "$name: the form sets the consent that was given");
	isnt(contact($joe)->{last_name}, 'Adamson', "$name: a contact without consent is not sent through the form");
	like($node->safe_psql('postgres', 'SELECT message FROM contactsync.failures'), qr/has not given/, "$name: it is a failure");
	is($node->safe_psql('postgres', 'SELECT state, reason FROM contactsync.status'),
		'idle|tier_required: contacts go through the form', "$name: the plan is stored, and shown in status");

	# the person opts out at Caramel; submitting the form again would undo that
	$sandbox->call('POST', 'caramel/contacts', { account => 'car', contacts => [ { email => $jane, marketing_consent => JSON::PP::false } ] });
	settle(q{UPDATE customers SET first_name = 'Janet' WHERE id = 1});
	ok(!contact($jane)->{marketing_consent}, "$name: an opt-out there is not undone");

	settle("INSERT INTO customers VALUES (9, 'kay$person\@example.com', 'Kay', NULL, true)");

	# the plan is upgraded
	set_tier('business');
	settle(q{SELECT contactsync_retry('car')});
	is(contact($jane)->{first_name}, 'Janet', "$name: after an upgrade the tool is used again");
	is(contact($joe)->{last_name}, 'Adamson', "$name: contacts without consent arrive");
	is($node->safe_psql('postgres', q{SELECT limitation IS NULL FROM contactsync.endpoint}), 't', "$name: the upgrade is stored");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM contactsync.failures'), '0', "$name: the failures disappear");

	# no call can withdraw consent
	settle(q{UPDATE customers SET consent = false WHERE id IN (1, 9)});
	is($node->safe_psql('postgres', 'SELECT key, code FROM contactsync.failures'), '9|consent_kept', "$name: an opt-out that cannot be delivered is a failure, unless Caramel knows it already");

	settle("UPDATE customers SET first_name = 'Kate' WHERE id = 9");
	settle("UPDATE customers SET first_name = 'Kay' WHERE id = 9");
	is(contact("kay$person\@example.com")->{first_name}, 'Kay', "$name: a value that was sent with it and changes back arrives");
	settle(q{SELECT contactsync_retry('car')});
	is($node->safe_psql('postgres', 'SELECT key, code FROM contactsync.failures'), '9|consent_kept', "$name: it remains one while Caramel has the consent");
	settle("INSERT INTO customers VALUES (10, 'kay$person\@example.com', 'Kai', NULL, NULL)");
	settle(q{SELECT contactsync_retry('car')});
	is(contact("kay$person\@example.com")->{first_name}, 'Kai', "$name: to try it again has no row speak that another one spoke after");
	is($node->safe_psql('postgres', 'SELECT key, code FROM contactsync.failures'), '9|consent_kept', "$name: it is still a failure");

	$sandbox->call('POST', 'caramel/reset', { account => 'car' });
	$node->safe_psql('postgres', q{
		DELETE FROM customers; SELECT contactsync_unwatch('customers', 'car');
		SELECT contactsync_watch('customers', 'car',
			'{"email": "email", "first_name": "first_name", "last_name": "last_name", "opt_in": "consent"}', claims => 'all')});
}

# the first 429 lowers the pace permanently, until the options change
$sandbox->fault('caramel', { match => { account => 'car' }, action => { status => 429, retry_after => '0' } });
settle(q{INSERT INTO customers VALUES (3, 'kim@example.com', 'Kim', NULL, NULL)});
is(contact('kim@example.com')->{first_name}, 'Kim', 'a throttled contact arrives');
is($node->safe_psql('postgres', 'SELECT pace FROM contactsync.endpoint'), '3', 'the pace is lowered to three a second');
$node->stop;
$node->start;
settle(q{UPDATE customers SET first_name = 'Kai' WHERE id = 3});
is($node->safe_psql('postgres', 'SELECT pace FROM contactsync.status'), '3', 'the lower pace remains');
$node->safe_psql('postgres', q{ALTER SERVER car OPTIONS (SET pace '400')});
settle(q{UPDATE customers SET first_name = 'Kay' WHERE id = 3});
$node->poll_query_until('postgres', 'SELECT pace IS NULL FROM contactsync.endpoint') or die 'timed out waiting for the pace';
is(contact('kim@example.com')->{first_name}, 'Kay', 'ALTER SERVER restores the pace');

# with the form as the way, who said no says so although Caramel kept the consent
set_tier('business');
settle(q{ALTER SERVER car OPTIONS (ADD route 'form'); INSERT INTO customers VALUES (20, 'lou@example.com', 'Lou', NULL, true), (30, 'moe@example.com', 'Moe', NULL, true)});
is(submitted('lou') . submitted('moe'), '11', 'new contacts are submitted');
settle('UPDATE customers SET id = 21, consent = false WHERE id = 20');
settle(q{INSERT INTO customers VALUES (22, 'lou@example.com', 'Louis', NULL, true)});
is(submitted('lou'), 1, 'another row is no word while one says no that Caramel kept');
settle(q{DELETE FROM customers WHERE id = 30; SELECT contactsync_upsert('car', '{"email": "moe@example.com", "opt_in": false}')});
settle(q{INSERT INTO customers VALUES (31, 'moe@example.com', 'Moe', NULL, NULL)});
settle(q{DELETE FROM customers WHERE id = 31});
settle(q{INSERT INTO customers VALUES (32, 'moe@example.com', 'Moe', NULL, true)});
is(submitted('moe'), 1, 'nor while contactsync_upsert() says no that Caramel kept');

# a no that Caramel kept was written, so that its row speaks for the contact
sub name_of { return contact("$_[0]\@example.com")->{first_name}; }
sub kept { return $node->safe_psql('postgres', qq{SELECT count(*) FROM contactsync.failures WHERE code = 'consent_kept' AND (key = '$_[0]' OR upsert_key = '$_[0]')}); }

settle(q{DELETE FROM customers});
settle(qq{INSERT INTO customers VALUES (4$_, 'nan\@example.com', 'Nan $_', NULL, true)}) foreach 0, 1;
settle(q{UPDATE customers SET consent = false WHERE id = 40});
is(name_of('nan') . kept(40), 'Nan 01', 'a no that Caramel kept was written nevertheless');
settle(q{DELETE FROM customers WHERE id = 40});
is(name_of('nan'), 'Nan 1', 'when its row goes, another one speaks for the contact');
settle(q{INSERT INTO customers VALUES (50, 'pam@example.com', 'Pam', NULL, true), (51, 'pat@example.com', 'Pat', NULL, false)});
settle(q{UPDATE customers SET email = 'pam@example.com' WHERE id = 51});
is(name_of('pam') . kept(51), 'Pat1', '... also with another address than before');
settle(q{UPDATE customers SET first_name = 'Pamela' WHERE id = 50});
settle(q{INSERT INTO customers VALUES (52, 'pat@example.com', 'Pete', NULL, NULL)});
settle(q{DELETE FROM customers WHERE id = 52});
is(name_of('pam'), 'Pamela', 'the row is not taken to stand for the contact of the previous address');
settle(q{DELETE FROM customers WHERE id = 50});
is(name_of('pam'), 'Pat', 'but for that of its address');

# likewise of contactsync_upsert(), which is tried again when a row has spoken since
$sandbox->call('POST', 'caramel/people', { account => 'car', email => 'ron@example.com', act => 'opt_in' });
settle(q{SELECT contactsync_upsert('car', '{"email": "ron@example.com", "first_name": "Ron", "opt_in": false}')});
is(name_of('ron') . kept('ron@example.com'), 'Ron1', 'contactsync_upsert() says no, and Caramel keeps the consent that the person gave');
settle(q{INSERT INTO customers VALUES (60, 'ron@example.com', 'Ronald', NULL, NULL)});
settle(q{SELECT contactsync_retry('car')});
is(name_of('ron'), 'Ronald', 'to try it again does not overwrite a row that has spoken since');
is(kept('ron@example.com'), 1, 'and it is still a failure');
$node->safe_psql('postgres', q{ALTER SERVER car OPTIONS (DROP route)});

# without a form
$node->safe_psql('postgres', q{ALTER SERVER car OPTIONS (DROP form_id)});
set_tier('starter');
$node->safe_psql('postgres', q{SELECT contactsync_upsert('car', '{"email": "ann@example.com", "first_name": "Ann"}')});
$node->poll_query_until('postgres', q{SELECT bool_or(state = 'halted' AND reason LIKE 'plan_too_low%') FROM contactsync.status})
  or die 'timed out waiting for the halt';
pass('without a form a plan that is too low halts');

done_testing();
