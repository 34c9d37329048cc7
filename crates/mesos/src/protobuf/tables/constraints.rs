//! `scheduler.proto`: which agents' offers a framework wants.

use super::*;

messages! {
    ATTRIBUTE_CONSTRAINT {
        1 selector: message ATTRIBUTE_CONSTRAINT_SELECTOR;
        2 predicate: message ATTRIBUTE_CONSTRAINT_PREDICATE;
    }
    ATTRIBUTE_CONSTRAINT_SELECTOR {
        1 pseudoattribute_type: enum ATTRIBUTE_CONSTRAINT_SELECTOR_PSEUDOATTRIBUTE_TYPE;
        2 attribute_name: string;
    }
    ATTRIBUTE_CONSTRAINT_PREDICATE {
        1 exists: message ATTRIBUTE_CONSTRAINT_PREDICATE_EXISTS;
        2 not_exists: message ATTRIBUTE_CONSTRAINT_PREDICATE_NOT_EXISTS;
        3 text_equals: message ATTRIBUTE_CONSTRAINT_PREDICATE_TEXT_EQUALS;
        4 text_not_equals: message ATTRIBUTE_CONSTRAINT_PREDICATE_TEXT_NOT_EQUALS;
        5 text_matches: message ATTRIBUTE_CONSTRAINT_PREDICATE_TEXT_MATCHES;
        6 text_not_matches: message ATTRIBUTE_CONSTRAINT_PREDICATE_TEXT_NOT_MATCHES;
    }
    ATTRIBUTE_CONSTRAINT_PREDICATE_EXISTS {}
    ATTRIBUTE_CONSTRAINT_PREDICATE_NOT_EXISTS {}
    ATTRIBUTE_CONSTRAINT_PREDICATE_TEXT_EQUALS {
        1 value: string;
    }
    ATTRIBUTE_CONSTRAINT_PREDICATE_TEXT_NOT_EQUALS {
        1 value: string;
    }
    ATTRIBUTE_CONSTRAINT_PREDICATE_TEXT_MATCHES {
        1 regex: string;
    }
    ATTRIBUTE_CONSTRAINT_PREDICATE_TEXT_NOT_MATCHES {
        1 regex: string;
    }
    OFFER_CONSTRAINTS {
        1 role_constraints: map message OFFER_CONSTRAINTS_ROLE_CONSTRAINTS;
    }
    OFFER_CONSTRAINTS_ROLE_CONSTRAINTS {
        1 groups: many message OFFER_CONSTRAINTS_ROLE_CONSTRAINTS_GROUP;
    }
    OFFER_CONSTRAINTS_ROLE_CONSTRAINTS_GROUP {
        1 attribute_constraints: many message ATTRIBUTE_CONSTRAINT;
    }
}

enums! {
    ATTRIBUTE_CONSTRAINT_SELECTOR_PSEUDOATTRIBUTE_TYPE {
        UNKNOWN = 0;
        HOSTNAME = 1;
        REGION = 2;
        ZONE = 3;
    }
}
