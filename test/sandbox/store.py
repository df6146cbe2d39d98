"""The contacts of one account, in insertion order, with a lookup by each unique field."""


class ContactStore:
    def __init__(self, unique_fields):
        self._rows = {}
        self._indexes = {field: {} for field in unique_fields}

    def __len__(self):
        return len(self._rows)

    def __iter__(self):
        return iter(list(self._rows.values()))

    def find(self, field, value):
        """Return the contact whose unique field has this value, or None."""
        if value is None:
            return None
        return self._indexes[field].get(value)

    def find_any(self, fields):
        """Return the first contact found by any of the unique fields in `fields`, or None."""
        found = (self.find(field, fields.get(field)) for field in self._indexes)
        return next((contact for contact in found if contact is not None), None)

    def insert(self, contact):
        self._rows[contact["id"]] = contact
        for field, index in self._indexes.items():
            if contact.get(field) is not None:
                index[contact[field]] = contact
        return contact

    def change(self, contact, changes):
        for field, index in self._indexes.items():
            if field in changes and changes[field] != contact.get(field):
                index.pop(contact.get(field), None)
                if changes[field] is not None:
                    index[changes[field]] = contact
        contact.update(changes)
        return contact

    def remove(self, contact):
        del self._rows[contact["id"]]
        for field, index in self._indexes.items():
            index.pop(contact.get(field), None)
