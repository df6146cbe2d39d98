# What is remembered of a person's consent belongs to the account at the provider, which a server only declares. A role that
# declares somebody else's account neither learns nor changes anything, also if it draws the other one into a group of its own.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();
my $n = 0;

sub sql { my ($role, $sql) = @_; return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]); }

sub has { my ($account, $email) = @_; return (grep { $_->{email} eq $email } @{ $sandbox->contacts('mailingcore', account => $account) })[0]; }

# The role adds a person who consents, to the table that it watches for the account, and what the provider has then.
sub add
{
	my ($role, $account, $email) = @_;
	my $id = ++$n;

	sql($role, qq{INSERT INTO s_$role.$account VALUES ($id, '$email', true); CALL contactsync_wait('$role $account')});
	return has($account, $email)->{optIn} ? 'subscribed' : 'not subscribed';
}

# The role deletes the row, and with it the contact at the provider.
sub remove
{
	my ($role, $account, $email) = @_;

	sql($role, qq{DELETE FROM s_$role.$account WHERE email = '$email'; CALL contactsync_wait('$role $account')});
	wait_for("$email to go", sub { !has($account, $email) });
	return;
}

# Have the role watch a table for an account; with somebody else's or an invalid key.
sub watch
{
	my ($role, $account, $key) = @_;
	my %param = (server => { tenant_id => $account, pace => 1000, burst => 1000 }, mapping => { api_key => $key // "mc_test_$account" });

	if ($role eq 'postgres') { create_server($node, $sandbox, 'mailingcore', account => $account, name => "$role $account", %param); }
	else { create_server($node, $sandbox, 'mailingcore', name => "$role $account", role => $role, %param); }
	sql($role, qq{
		CREATE TABLE s_$role.$account (id int PRIMARY KEY, email text, opt_in boolean);
		SELECT contactsync_watch('s_$role.$account', '$role $account', '{"email": "email", "external_id": "id", "opt_in": "opt_in"}',
			on_delete => 'delete', delete_delay => '0')});
	return;
}

sql('postgres', "CREATE ROLE $_ LOGIN") foreach qw(shop mallory gang team nobody);
sql('postgres', "CREATE SCHEMA s_$_ AUTHORIZATION $_") foreach qw(shop postgres mallory gang team nobody);

foreach my $victim (qw(shop postgres))
{
	my $account = "of_$victim";
	my @hostile = qw(mallory gang nobody);

	# the accounts have to exist at the provider
	create_server($node, $sandbox, 'mailingcore', account => $account, name => "made for $account");
	watch($victim, $account);
	is(add($victim, $account, "a-$_\@example.com"), 'subscribed', "$victim: a person is new") foreach @hostile;
	remove($victim, $account, "a-$_\@example.com") foreach @hostile;

	# gang is a group that mallory makes the victim a member of, without being asked
	sql('postgres', 'GRANT gang TO mallory WITH ADMIN OPTION');
	sql('mallory', "GRANT gang TO $victim");
	foreach my $hostile (@hostile)
	{
		# nobody's key is invalid
		watch($hostile, $account, $hostile eq 'nobody' ? 'mc_test_invalid' : undef);
		if ($hostile eq 'nobody')
		{
			sql($hostile, qq{INSERT INTO s_$hostile.$account VALUES (1, 'b-$hostile\@example.com', true)});
			$node->poll_query_until('postgres', qq{SELECT bool_or(state = 'halted') FROM contactsync.status WHERE server = '$hostile $account'}) or die 'timed out waiting for a halt';
			sql($hostile, qq{UPDATE s_$hostile.$account SET opt_in = false});
		}
		else
		{
			# learn: whether somebody was subscribed by the victim before
			is(add($hostile, $account, "a-$hostile\@example.com"), 'subscribed', "$hostile: a person is new who was subscribed by $victim");
			remove($hostile, $account, "a-$hostile\@example.com");
			# change: close what is remembered
			is(add($hostile, $account, "b-$hostile\@example.com"), 'subscribed', "$hostile: a person is new");
			remove($hostile, $account, "b-$hostile\@example.com");
		}
		is(sql($hostile, qq{SELECT count(*) FROM contactsync_find('a-$_\@example.com')}), '0', "$hostile finds nothing of what $victim knows") foreach 'nobody';
		sql($hostile, qq{SELECT contactsync_forget('$_-$hostile\@example.com')}) foreach qw(a b);
		is(add($victim, $account, "b-$hostile\@example.com"), 'subscribed', "$victim: a person is new whom $hostile forgot");
		isnt(add($victim, $account, "a-$hostile\@example.com"), 'subscribed', "$victim: what was claimed before is remembered");
	}
}

# Roles share what is remembered if an administrator made one a member of the other.
watch('team', 'of_shop');
foreach my $case ([ 'no member', 'GRANT shop TO nobody', 'subscribed' ], [ 'a member', 'GRANT team TO shop', 'not subscribed' ], [ 'no member any more', 'REVOKE team FROM shop', 'subscribed' ])
{
	my ($title, $grant, $result) = @$case;
	my $email = 'c' . ++$n . '@example.com';

	is(add('shop', 'of_shop', $email), 'subscribed', "$title: a person is new");
	remove('shop', 'of_shop', $email);
	sql('postgres', $grant);
	is(add('team', 'of_shop', $email), $result, "$title: and after that $result");
}

$node->stop;
done_testing();
