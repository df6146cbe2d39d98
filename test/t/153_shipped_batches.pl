# The shipped definitions of services that take several contacts a call, and are told of consent by another one.

use strict;
use warnings;

use JSON::PP;
use Shipped;
use Test::More;

start_shipped(qw(customerio hubspot klaviyo));
my $url = $sandbox->url;


# HubSpot: contacts, then what they want
$sandbox->config('hubspot', { account => 'hubspot', keys => { pat => {} }, requires_consent => JSON::PP::true, limits => { app => undef } });
create('hubspot', "base_url '$url/hubspot', subscription_id '7', \"create\" 'everybody'", "api_key 'pat'");
$sandbox->call('POST', 'hubspot/contacts', { account => 'hubspot', contacts => [ { email => 'left@example.com', properties => { email => 'left@example.com' } } ] });
$sandbox->call('POST', 'hubspot/people', { account => 'hubspot', email => 'left@example.com', act => 'opt_out' });
people('hubspot', '{"email": "email", "first_name": "name", "opt_in": "wants", "attributes": {"plan": "plan"}}');
my %inputs;
$inputs{ $_->{path} =~ s{.*/}{}r =~ s{\?.*}{}r } += @{ body($_)->{inputs} } foreach grep { $_->{method} eq 'POST' } journal('hubspot', 'hubspot');
is_deeply(\%inputs, { upsert => 4, read => 1, write => 2 }, 'hubspot: all are written, who is new and wants mail is asked for, and two say something');
my ($yes) = grep { $_->{email} eq 'yes@example.com' } @{ $sandbox->contacts('hubspot', account => 'hubspot') };
is_deeply($yes->{properties}, { email => 'yes@example.com', firstname => 'Yes', plan => 'pro' }, 'hubspot: properties');
check_consent('hubspot', 'hubspot', 'email');
is(resubscribed('hubspot', 'hubspot'), 1, 'hubspot: only the word subscribed somebody again');
$sandbox->call('POST', 'hubspot/people', { account => 'hubspot', email => 'earlier@example.com', act => 'opt_out' });
settle('hubspot', q{INSERT INTO hubspot VALUES (5, 'earlier@example.com', 'Earlier', true, NULL)});
is(mailable('hubspot', 'hubspot')->{'earlier@example.com'}, '-', 'hubspot: an opt-out of before there was a contact stands');
$sandbox->fault('hubspot', { match => { account => 'hubspot', path => '*/upsert' }, times => 3, action => { reject_items => { 'c150@example.com' => { code => 'VALIDATION_ERROR', message => 'not here' } } } });
settle('hubspot', q{INSERT INTO hubspot SELECT n, format('c%s@example.com', n), 'C', n % 2 = 0, NULL FROM generate_series(101, 350) n});
is(scalar(@{ $sandbox->contacts('hubspot', account => 'hubspot') }), 253, 'hubspot: all but one arrive');
is(app(q{SELECT string_agg(key || ' ' || code || ' ' || message, ', ') FROM contactsync.failures WHERE server = 'hubspot'}), '150 VALIDATION_ERROR not here', 'hubspot: which fails alone');
app(q{SELECT contactsync_ignore(ARRAY(SELECT id FROM contactsync.failures))});
is((scalar grep { @{ body($_)->{inputs} } > 100 } grep { $_->{method} eq 'POST' } journal('hubspot', 'hubspot')), 0, 'hubspot: batches have 100 contacts at most');
is((scalar grep { $_ eq 'mailable' } values %{ mailable('hubspot', 'hubspot') }), 124, 'hubspot: who wants mail can be mailed');
# what can be refused of a batch as a whole is found out
$sandbox->fault('hubspot', { match => { account => 'hubspot', path => '*/write', email => 'c102@example.com' }, times => undef, action => { status => 400, body => { status => 'error', category => 'VALIDATION_ERROR', message => 'no' } } });
settle('hubspot', q{UPDATE hubspot SET wants = false WHERE id BETWEEN 101 AND 120});
is(app(q{SELECT string_agg(key || ' ' || message, ', ') FROM contactsync.failures WHERE server = 'hubspot'}), '102 no', 'hubspot: a refusal of a batch of words is the one contact\'s');
$sandbox->clear_faults('hubspot');
app(q{SELECT contactsync_retry('hubspot')});
settle('hubspot', 'SELECT 1');
is(mailable('hubspot', 'hubspot')->{'c102@example.com'}, '-', 'hubspot: whose withdrawal arrives when it is tried again');
is(app(q{SELECT bool_or(result = 'ok') FROM contactsync_verify('hubspot')}), 't', 'hubspot: contacts are read back and compared');
cmp_ok(app(q{SELECT contactsync_pull('hubspot')}), '>', 200, 'hubspot: contacts are listed, page by page');
is(app(q{SELECT count(*) FROM contactsync.opt_outs WHERE server = 'hubspot' AND email = 'yes@example.com'}), '1', 'hubspot: with opt-outs');
check_errors('hubspot', 'hubspot', 'api_key', 'pat');
# a daily limit is no fault
$sandbox->fault('hubspot', { match => { account => 'hubspot' }, times => 1, action => { status => 429, body => { status => 'error', policyName => 'TEN_SECONDLY_ROLLING', message => 'slow down' }, headers => { 'Retry-After' => '1' } } });
settle('hubspot', q{UPDATE hubspot SET name = 'Slow' WHERE id = 1});
is(app(q{SELECT count(*) FROM contactsync.failures WHERE server = 'hubspot'}), '0', 'hubspot: a throttle is no failure');
# by default, whoever did not consent is not created
$sandbox->config('hubspot', { account => 'cautious', keys => { pat2 => {} }, limits => { app => undef } });
app("CREATE SERVER cautious FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'hubspot', base_url '$url/hubspot', subscription_id '7'); CREATE USER MAPPING FOR app SERVER cautious OPTIONS (api_key 'pat2')");
people('cautious', '{"email": "email", "opt_in": "wants"}');
is_deeply(mailable('hubspot', 'cautious'), { 'yes@example.com' => 'mailable', 'left@example.com' => 'mailable' }, 'hubspot: by default nobody is created who did not consent');

# Klaviyo: import jobs, and jobs of consent
sub jobs { my ($what) = @_; return grep { $_->{method} eq 'POST' && $_->{path} =~ /$what/ } journal('klaviyo', 'klaviyo'); }
sub sizes { my ($what) = @_; return join(' ', map { scalar @{ body($_)->{data}{attributes}{profiles}{data} } } jobs($what)); }
sub profile { my ($email) = @_; return (grep { $_->{email} eq $email } @{ $sandbox->contacts('klaviyo', account => 'klaviyo') })[0]; }
$sandbox->config('klaviyo', { account => 'klaviyo', keys => { pk => {} }, lists => { L1 => { double => JSON::PP::false } }, limits => { calls => undef } });
create('klaviyo', "base_url '$url/klaviyo', list_id 'L1', \"create\" 'everybody', concurrency '8'", "api_key 'pk'");
$sandbox->call('POST', 'klaviyo/contacts', { account => 'klaviyo', contacts => [ { email => 'left@example.com', consent => 'SUBSCRIBED' } ] });
$sandbox->call('POST', 'klaviyo/people', { account => 'klaviyo', email => 'left@example.com', act => 'opt_out' });
people('klaviyo', '{"email": "email", "external_id": "id", "first_name": "name", "opt_in": "wants", "attributes": {"plan": "plan"}}');
is_deeply(profile('yes@example.com')->{properties}, { plan => 'pro' }, 'klaviyo: properties');
is_deeply(profile('yes@example.com')->{lists}, ['L1'], 'klaviyo: who wants mail is in the list');
is(sizes('create-jobs'), '1', 'klaviyo: one is subscribed');
is(sizes('delete-jobs'), '1', 'klaviyo: and one is unsubscribed');
check_consent('klaviyo', 'klaviyo', 'email');
is(resubscribed('klaviyo', 'klaviyo'), 1, 'klaviyo: only the word subscribed somebody again');
# profiles fail alone, whatever their number is
app(q{INSERT INTO klaviyo SELECT n, CASE WHEN n % 500 = 1 THEN 'bad' ELSE 'k' END || n || '@example.com', 'K', NULL, NULL FROM generate_series(1001, 3500) n});
ok(guarded('klaviyo'), 'klaviyo: many profiles are held, since they could start flows');
settle('klaviyo', q{SELECT contactsync_resume('klaviyo', 'klaviyo', automations => 'accepted')});
is(scalar(@{ $sandbox->contacts('klaviyo', account => 'klaviyo') }), 2503, 'klaviyo: profiles are imported');
cmp_ok(scalar(jobs('import-jobs')), '<', 20, 'klaviyo: by few jobs');
is((scalar grep { $_ > 1000 } split(' ', sizes('import-jobs'))), 0, 'klaviyo: of 1,000 at most');
$sandbox->fault('klaviyo', { match => { account => 'klaviyo', path => '*/profile-bulk-import-jobs' }, times => undef,
	action => { reject_items => { map { ("k$_\@example.com" => { code => "c$_", message => "Invalid phone number $_" }) } 1100 .. 1250 } } });
settle('klaviyo', q{UPDATE klaviyo SET plan = 'free' WHERE id BETWEEN 1002 AND 1400});
is(app(q{SELECT count(*) || ' ' || min(key::int) || ' ' || max(key::int) FROM contactsync.failures WHERE server = 'klaviyo'}), '151 1100 1250',
	'klaviyo: more than a page of profiles fail, and no others');
is(profile('k1400@example.com')->{properties}{plan}, 'free', 'klaviyo: which are updated');
$sandbox->clear_faults('klaviyo');
app(q{SELECT contactsync_retry('klaviyo')});
settle('klaviyo', 'SELECT 1');
is(profile('k1250@example.com')->{properties}{plan}, 'free', 'klaviyo: they are updated when they are tried again');
# a job that is lost is begun again
$sandbox->fault('klaviyo', { match => { account => 'klaviyo', method => 'GET', path => '*/profile-bulk-import-jobs/*' }, times => 1, action => { status => 404, body => { errors => [ { code => 'not_found', detail => 'There is no such job' } ] } } });
settle('klaviyo', q{UPDATE klaviyo SET plan = 'lost' WHERE id = 1002});
is(profile('k1002@example.com')->{properties}{plan}, 'lost', 'klaviyo: a job that is lost is begun again');
settle('klaviyo', q{UPDATE klaviyo SET wants = true WHERE id BETWEEN 1002 AND 1300; UPDATE klaviyo SET wants = false WHERE id BETWEEN 1002 AND 1250});
is((scalar grep { $_ > 100 } split(' ', sizes('delete-jobs'))), 0, 'klaviyo: words are sent in batches, too');
is((scalar grep { $_ eq 'mailable' } values %{ mailable('klaviyo', 'klaviyo') }), 50, 'klaviyo: the last word counts');
is(app(q{SELECT bool_or(result = 'ok') FROM contactsync_verify('klaviyo')}), 't', 'klaviyo: contacts are read back and compared');
cmp_ok(app(q{SELECT contactsync_pull('klaviyo')}), '>', 200, 'klaviyo: contacts are listed, by the cursor in a link');
is(app(q{SELECT count(*) FROM contactsync.opt_outs WHERE server = 'klaviyo' AND email = 'yes@example.com'}), '1', 'klaviyo: with opt-outs');
check_errors('klaviyo', 'klaviyo', 'api_key', 'pk');

# Customer.io: people in batches, who are mailed unless they are unsubscribed
$sandbox->config('customerio', { account => 'customerio', keys => { 'site:secret' => {} }, limits => { workspace => undef } });
create('customerio', "base_url '$url/customerio/api/v2'", "username 'site', password 'secret'");
$sandbox->call('POST', 'customerio/contacts', { account => 'customerio', contacts => [ { id => '2', email => 'left@example.com', unsubscribed => JSON::PP::true } ] });
people('customerio', '{"email": "email", "external_id": "id", "first_name": "name", "opt_in": "wants", "attributes": {"plan": "plan"}}');
sub person { my ($id) = @_; return (grep { ($_->{id} // '') eq $id } @{ $sandbox->contacts('customerio', account => 'customerio') })[0]; }
is_deeply(person(1)->{attributes}, { first_name => 'Yes', plan => 'pro' }, 'customerio: attributes');
is(person(4), undef, 'customerio: who said nothing is not created');
check_consent('customerio', 'customerio', 'email', mails_whoever_exists => 1);
is(resubscribed('customerio', 'customerio'), 0, 'customerio: nobody was subscribed again');
$sandbox->fault('customerio', { match => { account => 'customerio' }, times => 3, action => { reject_items => { 'c150@example.com' => { code => 'invalid', message => 'not here' } } } });
app(q{INSERT INTO customerio SELECT n, format('c%s@example.com', n), 'C', true, NULL FROM generate_series(101, 250) n});
settle('customerio', 'SELECT 1');
is(app(q{SELECT string_agg(key || ' ' || code || ' ' || message, ', ') FROM contactsync.failures WHERE server = 'customerio'}), '150 invalid not here', 'customerio: a person fails alone, by its place in the batch');
app(q{SELECT contactsync_ignore(ARRAY(SELECT id FROM contactsync.failures))});
is((scalar grep { @{ body($_)->{batch} } > 100 } journal('customerio', 'customerio')), 0, 'customerio: batches have 100 people at most');
is((scalar grep { $_ eq 'mailable' } values %{ mailable('customerio', 'customerio') }), 149, 'customerio: who wants mail can be mailed');
# a batch that is too large is split
$sandbox->fault('customerio', { match => { account => 'customerio' }, times => 1, action => { status => 413, body => { errors => [ { reason => 'too_large', message => 'The batch is too large' } ] } } });
settle('customerio', q{UPDATE customerio SET plan = 'split' WHERE id BETWEEN 101 AND 140});
is((scalar grep { ($_->{attributes}{plan} // '') eq 'split' } @{ $sandbox->contacts('customerio', account => 'customerio') }), 40, 'customerio: a batch that is too large is split');
settle('customerio', q{DELETE FROM customerio WHERE id BETWEEN 101 AND 110});
is((scalar grep { ($_->{id} // 0) =~ /^10[1-9]$|^110$/ } @{ $sandbox->contacts('customerio', account => 'customerio') }), 0, 'customerio: people are deleted in batches');
check_errors('customerio', 'customerio', 'password', 'secret');

done_testing();
